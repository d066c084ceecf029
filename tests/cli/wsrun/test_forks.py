"""Processes that the app forks while it is served."""

from __future__ import annotations

import contextlib
import os
import signal
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
            assert client.recv(timeout=60) == server

        child = get(port, "/fork")[1]
        assert child != server
        answered = {get(port, "/pid")[1] for _ in range(30)}

        for client in clients:
            client.send("after")
            answered.add(t.cast(str, client.recv(timeout=60)))

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


CHILDREN = """
import concurrent.futures, multiprocessing, subprocess, time

context = multiprocessing.get_context("fork")
pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=context)
list(pool.map(abs, [1, 2]))
"""

# The app is loaded when all of its processes are there, so that they can be counted.
BUSY = """
import pathlib

pool.submit(time.sleep, 3600)

def work():
    sleep = subprocess.Popen(["sleep", "3600"])
    pathlib.Path("working").touch()
    sleep.wait()

context.Process(target=work).start()
while not pathlib.Path("working").exists():
    time.sleep(0.01)
subprocess.Popen(["sleep", "3600"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
@pytest.mark.parametrize("more", ["", BUSY], ids=["idle", "busy"])
def test_processes_of_the_app_end_with_the_server(tmp_path: Path, more: str) -> None:
    """They neither hold up a reload nor stay when the command ends."""
    app = write_app(tmp_path, more=CHILDREN + more)

    with wsrun(tmp_path, "--grace", "3600") as process:
        port = port_of(process)
        before = len(process.members())

        for number in (2, 3):
            old, new = f"version {number - 1}", f"version {number}"
            app.write_text(app.read_text().replace(old, new))
            process.wait_for("Reloaded in")
            assert get(port) == (200, new)
            until(lambda: len(process.members()) <= before, "the earlier ones to end")

        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert process.members() == {}


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_processes_of_the_app_end_with_a_server_that_is_killed(tmp_path: Path) -> None:
    """Nobody can say farewell then."""
    write_app(tmp_path, more=CHILDREN + BUSY)

    with wsrun(tmp_path) as process:
        port_of(process)
        process.signal(signal.SIGKILL)
        until(lambda: not process.members(), "all processes to end")


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_process_with_a_session_of_its_own_stays(tmp_path: Path) -> None:
    """It is a service that the app starts where there is none."""
    app = write_app(
        tmp_path,
        more="import subprocess\nservice = subprocess.Popen(['sleep', '3600'],"
        " start_new_session=True, stdout=-3, stderr=-3)\n"
        "print('service', service.pid, flush=True)\n",
    )

    with wsrun(tmp_path) as process:
        service = int(process.wait_for(r"service (\d+)")[1])

        try:
            port_of(process)
            app.write_text("from flask import Flask\n\napp = Flask(__name__)\n")
            process.wait_for("Reloaded in")
            process.signal(signal.SIGTERM)
            assert process.wait() == 0
            os.kill(service, 0)
        finally:
            os.kill(service, signal.SIGKILL)
