"""The first example of the README of 0.2.1, with the port from the environment."""

import os

from flask import Flask

from flask_sockets import Sockets

app = Flask(__name__)
sockets = Sockets(app)


@sockets.route("/echo")
def echo_socket(ws):
    while not ws.closed:
        message = ws.receive()
        ws.send(message)


@app.route("/")
def hello():
    return "Hello World!"


if __name__ == "__main__":
    from gevent import pywsgi
    from geventwebsocket.handler import WebSocketHandler

    server = pywsgi.WSGIServer(
        ("", int(os.environ["PORT"])), app, handler_class=WebSocketHandler
    )
    server.serve_forever()
