"""A dashboard: the background measures something, and open pages draw it as it comes.

Start it with ``flask --app examples/dashboard wsrun``. Who opens the page later gets
the last minute first. For a page that can't keep up only the newest value counts.
"""

import functools
import threading
import time

from flask import Flask, render_template_string

from flask_sockets import Sockets, WebSocket

PAGE = """<!doctype html><title>Dashboard</title>
<style>body { font: 1.1em/1.6 system-ui; max-width: 40em; margin: 3em auto }
svg { width: 100%; height: 12em; border-bottom: 1px solid #8888 }
polyline { fill: none; stroke: #06c; stroke-width: 2;
           vector-effect: non-scaling-stroke }
</style>
<p>A sleep took <b id=late>?</b> ms too long.</p>
<svg viewBox="0 0 60 10" preserveAspectRatio=none><polyline id=line /></svg>
<script>
  let points = [];  // of the last minute
  const socket = new WebSocket("{{ url_for('values') }}");
  socket.onmessage = ({ data }) => {
    const { time, late } = JSON.parse(data);
    points = [...points.filter((point) => point.time > time - 60), { time, late }];
    document.getElementById("late").textContent = late.toFixed(2);
    const place = (point) => [60 + point.time - time, 10 - Math.min(10, point.late)];
    document.getElementById("line").setAttribute("points", points.map(place).join(" "));
  };
</script>"""

PAUSE = 0.25

app = Flask(__name__)
sockets = Sockets(app)
sockets.topic("values", history=240, ttl=60, overflow="latest")


def measure() -> None:
    """Measure without end how busy this process is: what is due comes late."""
    while True:
        start = time.monotonic()
        time.sleep(PAUSE)
        late = (time.monotonic() - start - PAUSE) * 1000
        sockets.publish_json("values", {"time": time.time(), "late": late})


@functools.cache
def start_measuring() -> None:
    # A greenlet where gevent serves, as 'flask wsrun' does, and a thread elsewhere.
    threading.Thread(target=measure, daemon=True).start()


@sockets.route("/values")
def values(ws: WebSocket) -> None:
    start_measuring()
    ws.subscribe("values", history=240)
    ws.wait_closed()


@app.get("/")
def index() -> str:
    return render_template_string(PAGE)
