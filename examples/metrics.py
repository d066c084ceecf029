"""Metrics for Prometheus, of all workers together, whichever of them is asked.

Workers share them in a directory, which has to be empty when gunicorn starts::

    cd examples
    export PROMETHEUS_MULTIPROC_DIR=$(mktemp -d)
    gunicorn -c deploy/gunicorn.conf.py -w 2 metrics:app

That configuration takes workers out of the sums that have ended.
"""

import functools
import os
import threading
import time
import typing as t

from flask import Flask, Response, request
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from flask_sockets import Sockets, WebSocket, websocket_closed, websocket_opened

app = Flask(__name__)
sockets = Sockets(app)

OPEN = Gauge("websockets_open", "Open now.", ["route"], multiprocess_mode="livesum")
CLOSED = Counter("websockets_closed", "Closed.", ["route", "code"])
SECONDS = Histogram(
    "websocket_seconds", "Were open.", ["route"], buckets=[1, 10, 60, 600, 3600, 36000]
)
RECEIVED = Counter("websocket_received_bytes", "Received.", ["route"])
SENT = Counter("websocket_sent_bytes", "Sent by handlers.", ["route"])
TOPICS = Gauge("topics", "Of Sockets.stats().", ["what"], multiprocess_mode="livesum")


@functools.cache  # Once in each process.
def start_sampling() -> None:
    def sample() -> None:
        while True:
            for name, value in sockets.stats().items():
                TOPICS.labels(name).set(value)
            time.sleep(5)

    threading.Thread(target=sample, daemon=True).start()


@websocket_opened.connect_via(app)
def opened(sender: Flask, websocket: WebSocket) -> None:
    start_sampling()
    OPEN.labels(request.url_rule).inc()


@websocket_closed.connect_via(app)
def closed(sender: Flask, code: int, duration: float, **details: t.Any) -> None:
    route = request.url_rule
    OPEN.labels(route).dec()
    # Clients may choose any code from 3000 on. Each would be a series of its own.
    CLOSED.labels(route, code if code < 3000 else "app's").inc()
    SECONDS.labels(route).observe(duration)
    RECEIVED.labels(route).inc(details["bytes_received"])
    SENT.labels(route).inc(details["bytes_sent"])


@app.get("/metrics")
def metrics() -> Response:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


@sockets.route("/echo")
def echo(ws: WebSocket) -> None:
    ws.accept()
    for message in ws:
        ws.send(str(os.getpid()) if message == "pid" else message)
