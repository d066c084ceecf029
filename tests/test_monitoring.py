"""What Prometheus, OpenTelemetry and Sentry get to know, each in its own library, in
processes of their own: they change what they find in a process.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import typing as t
import urllib.request
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from .process import PATIENCE, Process, port_of, until

EXAMPLES = Path(__file__).parents[1] / "examples"


def open_one(port: int, path: str) -> ClientConnection:
    url = f"ws://127.0.0.1:{port}{path}"
    return connect(url, proxy=None, open_timeout=PATIENCE)


# Prometheus


def process_of(ws: ClientConnection) -> int:
    """The process that serves a WebSocket of the example."""
    ws.send("pid")
    return int(ws.recv(PATIENCE))


def is_open(ws: ClientConnection) -> bool:
    try:
        ws.recv(0)
    except TimeoutError:
        return True
    except ConnectionClosed:
        return False
    raise AssertionError("a message that nobody has sent")


def scrape(port: int) -> dict[str, float]:
    """The metrics by their names with labels."""
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        text = response.read().decode()
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"]
    return {name: float(value) for name, value in pairs}


def test_any_worker_tells_the_metrics_of_all(tmp_path: Path) -> None:
    """Also of one that was killed, but for what it had open."""
    command = "gunicorn -c deploy/gunicorn.conf.py -b 127.0.0.1:0 -w 2 metrics:app"
    env = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    with (
        Process(*command.split(), cwd=EXAMPLES, env=env) as process,
        contextlib.ExitStack() as stack,
    ):
        port = int(process.wait_for(r"Listening at: http://[\d.]+:(\d+)")[1])
        for _ in range(2):
            process.wait_for("takes up to")
        clients = [stack.enter_context(open_one(port, "/echo")) for _ in range(6)]
        ws = clients.pop()
        ws.send("four")
        assert ws.recv(PATIENCE) == "four"
        ws.close(4123)
        name = 'websockets_open{route="/echo"}'
        until(lambda: scrape(port)[name] == len(clients), "one is closed")
        for _ in range(4):  # Whichever worker answers.
            metrics = scrape(port)
            assert metrics[name] == len(clients)
            assert metrics['websockets_closed_total{code="app\'s",route="/echo"}'] == 1
            assert metrics['websocket_sent_bytes_total{route="/echo"}'] == 4
            assert metrics['websocket_received_bytes_total{route="/echo"}'] == 4
            assert metrics['websocket_seconds_count{route="/echo"}'] == 1
            assert 'topics{what="delivered"}' in metrics

        os.kill(process_of(clients[0]), signal.SIGKILL)
        until(lambda: not is_open(clients[0]), "it is killed")
        until(
            lambda: scrape(port).get(name, 0) == sum(map(is_open, clients)),
            "what it had open is forgotten",
        )
        assert scrape(port)['websockets_closed_total{code="app\'s",route="/echo"}'] == 1
        assert "Traceback" not in process.output


# OpenTelemetry


def spans_in(output: str) -> list[dict[str, t.Any]]:
    """The spans that an exporter has written to a terminal."""
    decoder = json.JSONDecoder()
    found = []
    for match in re.finditer(r"^\{$", output, re.MULTILINE):
        with contextlib.suppress(ValueError):  # The last one may not be whole yet.
            found.append(decoder.raw_decode(output, match.start())[0])
    return found


def test_each_message_is_a_trace_that_links_to_the_handshake() -> None:
    command = "flask --app tracing wsrun --port 0"
    with Process(*command.split(), cwd=EXAMPLES) as process:
        with open_one(port_of(process), "/shout") as ws:

            def spans(name: str, count: int) -> list[dict[str, t.Any]]:
                def have_come() -> list[dict[str, t.Any]]:
                    all_of_them = spans_in(process.output)
                    found = [span for span in all_of_them if span["name"] == name]
                    return found if len(found) >= count else []

                return t.cast("list[dict[str, t.Any]]", until(have_come, name))

            for number in range(2):
                ws.send(f"message {number}")
                assert ws.recv(PATIENCE) == f"MESSAGE {number}"
            # It isn't there for as long as the connection is.
            (handshake,) = spans("GET /shout", 1)
            ws.send("fail")
            assert ws.recv(PATIENCE) == "FAIL"
            messages = spans("message /shout", 3)
        process.signal(signal.SIGINT)
        process.wait()
        assert len(spans_in(process.output)) == 4
    context = handshake["context"]
    assert handshake["attributes"]["http.route"] == "/shout"
    for message in messages:
        assert message["parent_id"] is None
        assert message["context"]["trace_id"] != context["trace_id"]
        assert [link["context"] for link in message["links"]] == [context]
    statuses = [message["status"]["status_code"] for message in messages]
    assert statuses == ["UNSET", "UNSET", "ERROR"]
    (event,) = messages[2]["events"]
    assert event["attributes"]["exception.type"] == "ValueError"


# Sentry

SENTRY = """
import json, sys
import sentry_sdk
from flask import Flask
from sentry_sdk.transport import Transport
from flask_sockets import Sockets

class Print(Transport):
    def capture_envelope(self, envelope):
        for item in envelope.items:
            print(json.dumps({"type": item.type, **item.payload.json}))

sentry_sdk.init("http://key@127.0.0.1/1", transport=Print)
app = Flask(__name__)
app.config["PROPAGATE_EXCEPTIONS"] = False
sockets = Sockets(app)

@sockets.route("/fail/<int:number>", context=sys.argv[1])
def fail(ws, number):
    for message in ws:
        ws.send(message)
        if message == "fail":
            raise LookupError(message)

with app.test_client().websocket("/fail/7?secret=1") as ws:
    for message in ("a", "fail"):
        ws.send(message)
        ws.receive()
    try:
        ws.receive()
    except Exception as error:
        assert error.code == 1011, error
with app.test_client().websocket("/fail/7"):
    pass
"""


@pytest.mark.parametrize("context", ["connection", "message"])
def test_sentry_gets_an_exception_once_with_its_route(
    tmp_path: Path, context: str
) -> None:
    """And nothing of clients that go away."""
    script = tmp_path / "app.py"
    script.write_text(SENTRY)
    with Process(sys.executable, str(script), context, cwd=tmp_path) as process:
        assert process.wait() == 0, process.output
    lines = [line for line in process.output.splitlines() if line.startswith('{"')]
    # Inside of a repository there are figures about sessions as well.
    (event,) = [item for item in map(json.loads, lines) if item["type"] == "event"]
    # The endpoint, and the rule from version 3 on.
    assert event["transaction"] in ("fail", "/fail/<int:number>")
    assert event["request"]["url"] == "http://localhost/fail/7"
    (exception,) = event["exception"]["values"]
    assert (exception["type"], exception["value"]) == ("LookupError", "fail")
