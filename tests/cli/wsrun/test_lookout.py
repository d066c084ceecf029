"""An app that keeps everybody waiting says where it does so."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest

from ...process import port_of
from ..apps import get, write_app, wsrun

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="sends signals to process groups"
)


@pytest.mark.parametrize(
    "loading",
    [
        "while True: pass",
        "import time; time.sleep(3600)",
        # Its threads become greenlets, which wait for what no greenlet can.
        "import multiprocessing as m; m.get_context('fork').Pool(2).map(abs, [1])",
    ],
    ids=["busy", "asleep", "pool"],
)
def test_app_that_takes_long_to_load_says_where_it_stands(
    tmp_path: Path, loading: str
) -> None:
    """Whatever it is doing: the terminal would be empty."""
    (tmp_path / "app.py").write_text(f"# One\n# Two\n{loading}\n")

    with wsrun(tmp_path) as server:
        server.wait_for(r"^ \* Still loading, at app\.py:3$")
        server.signal_group(signal.SIGINT)
        assert server.wait() == 0
        assert server.output.count("Still loading") == 1


WAITING = """
import time, gevent.monkey

sleep = gevent.monkey.get_original("time", "sleep")

@app.route("/sleep")
def sleeping():
    time.sleep(5)
    return "slept"

@app.route("/block")
def blocking():
    sleep(5)  # here
    return "blocked"
"""


def test_view_that_lets_no_other_run_is_named(tmp_path: Path) -> None:
    """One that waits as greenlets do is not, however long it takes."""
    app = write_app(tmp_path, more=WAITING)
    line = next(n for n, s in enumerate(app.read_text().splitlines(), 1) if "here" in s)

    with wsrun(tmp_path) as server:
        port = port_of(server)
        assert get(port, "/sleep") == (200, "slept")
        assert "have waited" not in server.output
        assert get(port, "/block") == (200, "blocked")
        server.wait_for(
            r"^ \* All requests and WebSockets have waited for 3 s, since"
            rf" app\.py:{line} has let no other run$"
        )
        assert server.output.count("have waited") == 1


def test_crash_has_a_traceback_in_debug_mode(tmp_path: Path) -> None:
    """Where Python itself ends there is no other one."""
    write_app(
        tmp_path,
        more="import os, signal\n\n@app.route('/crash')\ndef crash():\n"
        "    os.kill(os.getpid(), signal.SIGSEGV)\n",
    )

    with wsrun(tmp_path) as server:
        port = port_of(server)

        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /crash HTTP/1.1\r\nHost: localhost\r\n\r\n")
            server.wait_for("Fatal Python error: Segmentation fault")
            server.wait_for(r'File ".*app\.py", line \d+ in crash')
            server.wait_for("was ended by SIGSEGV")
