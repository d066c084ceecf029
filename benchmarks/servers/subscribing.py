"""Flask-Sockets, with sockets that subscribe and leave when they are told to."""

import sys

from flask import Flask
from gevent.pywsgi import WSGIServer

from flask_sockets import Sockets, WebSocketHandler

app = Flask(__name__)
app.config.update(SOCKETS_PING_INTERVAL=None, SOCKETS_MAX_TOPICS=1000)
sockets = Sockets(app)


@sockets.route("/")
def follow(ws):
    ws.send("ready")
    for message in ws:
        what, _, count = message.partition(" ")
        topics = [f"topic/{number}" for number in range(int(count))]
        if what == "subscribe":
            ws.subscribe(*topics)
        elif what == "leave":
            ws.unsubscribe(*topics)
        ws.send("done")


server = WSGIServer(
    ("127.0.0.1", int(sys.argv[1])), app, handler_class=WebSocketHandler, log=None
)
server.serve_forever()
