"""The echo server that the Autobahn TestSuite talks to.

Served by gevent's pywsgi with the handler of Flask-Sockets:

    python compliance/server.py 9001

or by Flask's development server:

    flask --app compliance/server run --port 9001
"""

import sys

from flask import Flask

from flask_sockets import Sockets

app = Flask(__name__)
app.config.update(
    SOCKETS_COMPRESSION=True,
    # The suite sends messages of 16 MiB.
    SOCKETS_MAX_MESSAGE_SIZE=16 * 1024 * 1024,
    # The suite's longest pauses are shorter, and it counts the frames it gets.
    SOCKETS_PING_INTERVAL=None,
)
sockets = Sockets(app)


@sockets.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)


if __name__ == "__main__":
    from gevent.pywsgi import WSGIServer

    from flask_sockets import WebSocketHandler

    address = ("127.0.0.1", int(sys.argv[1]))
    WSGIServer(address, app, handler_class=WebSocketHandler, log=None).serve_forever()
