"""Progress: a page follows the Celery task that it has started.

It takes a Redis, for the tasks and for what they publish, and two more processes. In
this folder: ``celery -A celery_progress.celery worker``, and
``flask --app celery_progress wsrun``.
"""

import os
import time
import typing as t

from celery import Celery
from flask import Flask, render_template_string

from flask_sockets import Sockets, WebSocket

PAGE = """<!doctype html><title>Progress</title>
<style>body { font: 1.1em/1.6 system-ui; max-width: 32em; margin: 3em auto }
progress { width: 100% }</style>
<p><button id=start>Start</button> <b id=state></b></p>
<progress id=bar value=0></progress>
<script>
  const byId = (id) => document.getElementById(id);
  const url = "{{ url_for('progress', task='TASK') }}";

  function follow(task) {
    const socket = new WebSocket(url.replace("TASK", task));
    socket.onmessage = ({ data }) => {
      const { done, of } = JSON.parse(data);
      [byId("bar").value, byId("bar").max] = [done, of];
      byId("state").textContent = `${done} of ${of}`;
      if (done === of) socket.close(1000, "done");
    };
    // Cut off, it comes back to the same task.
    socket.onclose = ({ reason }) => reason || setTimeout(follow, 1000, task);
  }
  byId("start").onclick = async () => {
    byId("start").disabled = true;
    follow(await (await fetch("{{ url_for('start') }}", { method: "POST" })).text());
  };
</script>"""

REDIS = os.environ.get("REDIS_URL", "redis://localhost")
STEPS = 20

app = Flask(__name__)
app.config["SOCKETS_BROKER"] = REDIS
sockets = Sockets(app)
# Whoever comes to a task, or comes back to it, learns how far it is.
sockets.topic("task/<id>", history=1)
celery = Celery(__name__, broker=REDIS)


@celery.task(bind=True)
def work(self: t.Any) -> None:
    for done in range(1, STEPS + 1):
        time.sleep(0.1)
        sockets.publish_json(f"task/{self.request.id}", {"done": done, "of": STEPS})


@app.post("/start")
def start() -> str:
    return str(work.delay().id)


@sockets.route("/progress/<task>")
def progress(ws: WebSocket, task: str) -> None:
    ws.subscribe(f"task/{task}", history=1)
    ws.wait_closed()


@app.get("/")
def index() -> str:
    return render_template_string(PAGE)
