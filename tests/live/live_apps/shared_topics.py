"""Topics that several processes share."""

import os

from flask import Flask, request

from flask_sockets import Sockets

app = Flask(__name__)
app.config["SOCKETS_BROKER"] = os.environ["SOCKETS_BROKER"]
sockets = Sockets(app)
sockets.topic("log", history=1000)
sockets.topic("room", presence=True)


@sockets.route("/log")
def log(ws):
    ws.subscribe("log", since=request.args.get("since"), envelope=True)
    ws.send(str(os.getpid()))
    for message in ws:
        sockets.publish("log", message)


@sockets.route("/room/<member>")
def room(ws, member):
    ws.subscribe("room", member=member)
    ws.send("entered")
    ws.wait_closed()


@app.get("/room")
def members():
    return sorted(sockets.presence("room"))
