"""Flask-Sockets, with handlers that receive and others that only wait.

The first argument is the interval of the pings in seconds, or 0 for none.
"""

import sys

from flask import Flask
from gevent.event import Event
from gevent.pywsgi import WSGIServer

from flask_sockets import Sockets, WebSocketHandler

app = Flask(__name__)
app.config["SOCKETS_PING_INTERVAL"] = int(sys.argv[1]) or None
sockets = Sockets(app)
never = Event()


@sockets.route("/receiving")
def receive(ws):
    ws.send("ready")
    for _ in ws:
        pass


@sockets.route("/waiting")
def wait(ws):
    ws.send("ready")
    never.wait()


@app.route("/page")
def page():
    return "ready"


server = WSGIServer(
    ("127.0.0.1", int(sys.argv[2])), app, handler_class=WebSocketHandler, log=None
)
server.serve_forever()
