"""Flask-Sockets, with many topics that several processes share, and members of none."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import sys  # noqa: E402

from flask import Flask, request  # noqa: E402
from gevent.pywsgi import WSGIServer  # noqa: E402

from flask_sockets import Sockets, WebSocketHandler  # noqa: E402

app = Flask(__name__)
app.config.update(SOCKETS_PING_INTERVAL=None, SOCKETS_BROKER=os.environ["REDIS_URL"])
sockets = Sockets(app)
sockets.topic("history/<number>", history=100)


@sockets.route("/follow/<path:topic>")
def follow(ws, topic):
    since = request.args.get("since")
    with ws.subscribe(topic, since=since, envelope=True) as subscription:
        ws.send(f"ready {subscription.position} {subscription.recovered}")
    ws.wait_closed()


@sockets.route("/publish")
def publish(ws):
    """Publish one message to each topic of a range, as often as there are messages."""
    for message in ws:
        kind, first, last, text = message.split(" ", 3)
        for number in range(int(first), int(last)):
            sockets.publish(f"{kind}/{number}", text)
        ws.send("done")


server = WSGIServer(
    ("127.0.0.1", int(sys.argv[1])),
    app,
    handler_class=WebSocketHandler,
    log=None,
    backlog=4096,
)
server.serve_forever()
