"""Flask-Sockets without topics, as apps do it with several processes.

A greenlet listens to Redis, and sends what comes to each member.
"""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import sys  # noqa: E402

import gevent  # noqa: E402
from flask import Flask  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402
from redis import Redis  # noqa: E402

from flask_sockets import ConnectionClosed, Sockets, WebSocketHandler  # noqa: E402

app = Flask(__name__)
app.config["SOCKETS_PING_INTERVAL"] = None
sockets = Sockets(app)
redis = Redis.from_url(os.environ["REDIS_URL"])
members = set()


def listen(pubsub):
    for event in pubsub.listen():
        if event["type"] != "message":
            continue
        message = event["data"].decode()
        for member in list(members):
            try:
                member.send(message)
            except ConnectionClosed:
                members.discard(member)


@sockets.route("/subscribe")
def subscribe(ws):
    members.add(ws)
    ws.send("ready")
    try:
        for _ in ws:
            pass
    finally:
        members.discard(ws)


@sockets.route("/publish")
def publish(ws):
    for message in ws:
        redis.publish("bench", message)


pubsub = redis.pubsub()
pubsub.subscribe("bench")
gevent.spawn(listen, pubsub)
server = WSGIServer(
    ("127.0.0.1", int(sys.argv[1])), app, handler_class=WebSocketHandler, log=None
)
server.serve_forever()
