"""Flask-Sockets: an ordinary route, on its handler for gevent's pywsgi."""

import sys

from flask import Flask
from gevent.pywsgi import WSGIServer

from flask_sockets import Sockets, WebSocketHandler

app = Flask(__name__)
sockets = Sockets(app)


@sockets.route("/")
def echo(ws):
    for message in ws:
        ws.send(message)


server = WSGIServer(
    ("127.0.0.1", int(sys.argv[1])), app, handler_class=WebSocketHandler, log=None
)
server.serve_forever()
