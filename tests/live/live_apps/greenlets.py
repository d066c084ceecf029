"""An app that relies on greenlets, as many for gevent do."""

import gevent
from flask import Flask

from flask_sockets import Sockets

app = Flask(__name__)
sockets = Sockets(app)
clients = []


def broadcast(message):
    for client in clients:
        client.send(message)


@sockets.route("/chat")
def chat(ws):
    clients.append(ws)
    for message in ws:
        gevent.spawn(broadcast, message)
