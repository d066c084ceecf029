"""What a reliability campaign is about: rooms, a topic with history, and a firehose."""

import gc
import os

from flask import Flask, request
from greenlet import greenlet

from flask_sockets import BrokerUnavailable, Sockets

app = Flask(__name__)
app.config["SOCKETS_BROKER"] = os.environ["SOCKETS_BROKER"]
sockets = Sockets(app)
sockets.topic("log", history=5000)


@sockets.route("/room/<int:number>")
def room(ws, number):
    with ws.subscribe(f"room/{number}"):
        ws.send("ready")
    for _ in ws:
        pass


@sockets.route("/firehose")
def firehose(ws):
    ws.subscribe("firehose")
    ws.wait_closed()


@sockets.route("/log")
def log(ws):
    since = request.args.get("since")
    with ws.subscribe("log", since=since, envelope=True) as subscription:
        ws.send_json({"recovered": subscription.recovered})
    ws.wait_closed()


@sockets.route("/publish")
def publish(ws):
    for message in ws:
        topic, _, data = message.partition(" ")
        try:
            sockets.publish(topic, data)
            ws.send("published")
        except BrokerUnavailable:
            ws.send("failed")


@app.get("/state")
def state():
    """What this process has."""
    gc.collect()
    greenlets = sum(isinstance(thing, greenlet) for thing in gc.get_objects())
    return {"pid": os.getpid(), "greenlets": greenlets, **sockets.stats()}
