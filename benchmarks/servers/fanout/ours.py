"""Flask-Sockets, with a topic. With REDIS_URL also across processes."""

import os
import sys

if "REDIS_URL" in os.environ:  # As all servers do that serve with greenlets.
    from gevent import monkey

    monkey.patch_all()

from flask import Flask
from gevent.pywsgi import WSGIServer

from flask_sockets import Sockets, WebSocketHandler

app = Flask(__name__)
app.config.update(
    SOCKETS_PING_INTERVAL=None,
    SOCKETS_BROKER=os.environ.get("REDIS_URL", "memory://"),
)
sockets = Sockets(app)


@sockets.route("/subscribe")
def subscribe(ws):
    ws.subscribe("bench")
    ws.send("ready")
    for _ in ws:
        pass


@sockets.route("/publish")
def publish(ws):
    for message in ws:
        sockets.publish("bench", message)


server = WSGIServer(
    ("127.0.0.1", int(sys.argv[1])), app, handler_class=WebSocketHandler, log=None
)
server.serve_forever()
