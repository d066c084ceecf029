"""Flask-Sockets without topics: a set of members, and a loop that sends to each."""

import sys

from flask import Flask
from gevent.pywsgi import WSGIServer

from flask_sockets import ConnectionClosed, Sockets, WebSocketHandler

app = Flask(__name__)
app.config["SOCKETS_PING_INTERVAL"] = None
sockets = Sockets(app)
members = set()


@sockets.route("/subscribe")
def subscribe(ws):
    members.add(ws)
    ws.send("ready")
    try:
        for _ in ws:
            pass
    finally:
        members.discard(ws)


@sockets.route("/publish")
def publish(ws):
    for message in ws:
        for member in list(members):
            try:
                member.send(message)
            except ConnectionClosed:
                members.discard(member)


server = WSGIServer(
    ("127.0.0.1", int(sys.argv[1])), app, handler_class=WebSocketHandler, log=None
)
server.serve_forever()
