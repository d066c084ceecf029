"""Processes that the app forks while it is served."""

from __future__ import annotations

import contextlib
import sys
import typing as t
from pathlib import Path

import gevent
import pytest
from websockets.sync.client import connect

from ...process import port_of, until
from ..apps import get, write_app, wsrun

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks")

FORKING = """
import multiprocessing, os, pathlib, subprocess, threading, time
from flask_sockets import Sockets

sockets = Sockets(app)
queue = []

def work():
    # What a server's greenlets wait for would come now, too.
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
    text = subprocess.check_output(["echo", "done"], text=True)
    print(text.strip(), "by", os.getpid(), flush=True)

def tick():
    while True:
        time.sleep(0.01)
        pathlib.Path(f"ticked-{os.getpid()}").touch()

@app.route("/fork")
def fork():
    threading.Thread(target=tick, daemon=True).start()
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return str(process.pid)

@app.route("/pid")
def pid():
    return str(os.getpid())

@sockets.route("/pid")
def pid_socket(ws):
    for message in ws:
        ws.send(str(os.getpid()))
"""


def test_forked_process_does_what_it_was_forked_for_and_serves_nobody(
    tmp_path: Path,
) -> None:
    """Requests and messages are all answered by the server, whose background tasks go
    on in the server only.
    """
    write_app(tmp_path, more=FORKING)

    with contextlib.ExitStack() as stack:
        process = stack.enter_context(wsrun(tmp_path))
        port = port_of(process)
        url = f"ws://127.0.0.1:{port}/pid"
        clients = [stack.enter_context(connect(url)) for _ in range(5)]
        server = get(port, "/pid")[1]

        for client in clients:
            client.send("before")
            assert client.recv(timeout=30) == server

        child = get(port, "/fork")[1]
        assert child != server
        answered = {get(port, "/pid")[1] for _ in range(30)}

        for client in clients:
            client.send("after")
            answered.add(t.cast(str, client.recv(timeout=30)))

        assert answered == {server}
        until((tmp_path / f"ticked-{server}").exists, "the server's thread to go on")
        assert not (tmp_path / f"ticked-{child}").exists()
        (tmp_path / "go").touch()
        process.wait_for(f"done by {child}")


def test_private_parts_of_gevent_are_there() -> None:
    """Without them forked processes would serve."""
    assert hasattr(gevent.get_hub().loop, "_callbacks"), (
        "The loops of gevent have no '_callbacks' any more. Find out where they keep"
        " what is to run next, and stop that in 'serve/_gevent.py'."
    )
