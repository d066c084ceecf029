"""Topics with and without a history, and members, for tests that break things."""

import contextlib
import gc
import json
import os
import threading
import time

from flask import Flask, request

from flask_sockets import BrokerUnavailable, Sockets, member_left

HISTORY = [f"history/{number}" for number in range(5)]
PLAIN = [f"plain/{number}" for number in range(5)]

app = Flask(__name__)
app.config["SOCKETS_BROKER"] = os.environ["SOCKETS_BROKER"]
sockets = Sockets(app)
sockets.topic("history/<int:number>", history=20_000)
sockets.topic("people", presence=True)


@member_left.connect_via(app)
def note(sender, topic, member, info):
    print(f"left: {member} {info}.", flush=True)


@sockets.route("/follow")
def follow(ws):
    """Say what is recovered of each topic with a history, and push all topics."""
    since = json.loads(request.args["since"])
    with contextlib.ExitStack() as stack:
        subscriptions = {
            topic: stack.enter_context(
                ws.subscribe(topic, since=since.get(topic), envelope=True)
            )
            for topic in HISTORY
        }
        stack.enter_context(ws.subscribe(*PLAIN, envelope=True))
        ws.subscribe("people", member=request.args["name"], info="here")
        ws.send_json(
            {
                "pid": os.getpid(),
                "topics": {
                    topic: [subscription.recovered, subscription.position]
                    for topic, subscription in subscriptions.items()
                },
            }
        )
    ws.wait_closed()


@sockets.route("/publish")
def publish(ws):
    """Publish messages, and say how long each took and what went wrong."""
    for message in ws:
        topic, text = json.loads(message)
        start = time.monotonic()
        error = None
        try:
            sockets.publish(topic, text)
        except BrokerUnavailable as unavailable:
            error = str(unavailable)
        ws.send_json([time.monotonic() - start, error])


@app.get("/people")
def people():
    return sorted(sockets.presence("people"))


@app.get("/state")
def state():
    from gevent import Greenlet

    gc.collect()
    return {
        "threads": threading.active_count(),
        "greenlets": sum(isinstance(thing, Greenlet) for thing in gc.get_objects()),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }
