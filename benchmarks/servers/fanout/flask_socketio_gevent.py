"""Flask-SocketIO on gevent's pywsgi, with gevent-websocket: a room.

With REDIS_URL also across processes.
"""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import sys  # noqa: E402

from flask import Flask  # noqa: E402
from flask_socketio import SocketIO, emit, join_room  # noqa: E402

app = Flask(__name__)
socketio = SocketIO(
    app,
    async_mode="gevent",
    cors_allowed_origins="*",
    http_compression=False,
    max_http_buffer_size=2**24,
    message_queue=os.environ.get("REDIS_URL"),
    ping_interval=3600,
)


@socketio.on("subscribe")
def subscribe():
    join_room("bench")
    emit("ready")


@socketio.on("publish")
def publish(data):
    emit("m", data, to="bench")


socketio.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_output=False)
