"""Topics, published to from views, handlers and the background."""

import json
import threading
import time

from flask import Flask, abort, request, session

from flask_sockets import Sockets, member_left

app = Flask(__name__)
app.secret_key = "test"
sockets = Sockets(app)
sockets.topic("log", history=100)
sockets.topic("room/<name>", presence=True)

#: Members that have left, and the greenlets of handlers that may be killed.
left = []
handlers = {}

# Published where gunicorn loads the app, before it forks.
sockets.publish("log", "before the fork")


@sockets.topic("members/<name>")
def may_enter(name):
    if session.get("name", name) != name or name == "nobody":
        abort(403)


@member_left.connect_via(app)
def note(sender, topic, member, info):
    left.append(member)


@sockets.route("/subscribe/<path:topic>")
def subscribe(ws, topic):
    if "accept" in request.args:
        ws.accept()
    ws.subscribe(
        topic,
        history=int(request.args.get("history", 0)),
        since=request.args.get("since"),
        envelope="envelope" in request.args,
        member=request.args.get("member"),
    )
    if "raise" in request.args:
        raise LookupError("expected")
    if "return" in request.args:
        return
    if "hold" in request.args:
        handlers[request.args["hold"]] = current_greenlet()
    for message in ws:
        ws.publish(topic, message)


def current_greenlet():
    import gevent

    return gevent.getcurrent()


@app.post("/publish/<path:topic>")
def publish(topic):
    for message in request.get_json():
        sockets.publish(topic, message)
    return "published"


@app.post("/kill/<name>")
def kill(name):
    handlers.pop(name).kill()
    return "killed"


@app.get("/state/<path:topic>")
def state(topic):
    return {**sockets.stats(), "present": sockets.presence(topic), "left": left}


flood = {"published": 0, "until": 0.0}


@app.post("/flood/<topic>")
def start_flood(topic):
    """Publish without a pause until it is ended, or for a minute at most."""
    flood["until"] = time.monotonic() + 60
    flood["published"] = 0

    def run():
        while time.monotonic() < flood["until"]:
            flood["published"] += 1
            sockets.publish(topic, json.dumps(flood["published"]))

    threading.Thread(target=run, daemon=True).start()
    return "started"


@app.get("/flood")
def look_at_flood():
    return {
        "published": flood["published"],
        "is_over": time.monotonic() > flood["until"],
    }


@app.post("/end-flood")
def end_flood():
    flood["until"] = 0.0
    return "ended"
