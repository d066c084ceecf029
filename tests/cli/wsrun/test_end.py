"""How ``flask wsrun`` and its parts end, and what then becomes of what they serve."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.sync.client import connect

from ...process import Process, port_of, until
from ..apps import UPGRADE, WEBSOCKETS, get, write_app, wsrun

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="sends signals to process groups"
)

#: What reaches all processes: Ctrl-C, a process manager's word, a closed terminal.
GROUP_SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _hangup_is_obeyed() -> Iterator[None]:
    """Under 'nohup' SIGHUP is ignored, by these tests and by what they start."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


#: Has the server tell when it begins to stop.
TELLING = """
from flask_sockets_cli.serve import main, server

class TellingServer(server.Server):
    def do_handle(self, *args):
        print("accepted", flush=True)
        super().do_handle(*args)

    def drain(self, *args):
        print("draining", flush=True)
        super().drain(*args)

main.Server = TellingServer
"""


def test_a_request_that_is_on_its_way_when_the_server_stops_is_answered(
    tmp_path: Path,
) -> None:
    """A client that is connected already gets its answer from the old server."""
    app = write_app(
        tmp_path,
        # However slow this machine is.
        more=f"{TELLING}\nserver._FIRST_REQUEST = 3600\n",
    )

    with wsrun(tmp_path, "--grace", "3600") as process:
        port = port_of(process)

        with socket.create_connection(("127.0.0.1", port)) as client:
            process.wait_for("accepted")
            app.write_text(app.read_text().replace("version 1", "version 2"))
            process.wait_for("draining")
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""

            while data := client.recv(1000):
                answer += data

        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"version 1")
        process.wait_for("Reloaded in")


def test_connections_without_a_request_hold_up_nothing(tmp_path: Path) -> None:
    """A connection that is kept open for later is not waited for."""
    app = write_app(tmp_path)

    with wsrun(tmp_path, "--grace", "3600") as process:
        with socket.create_connection(("127.0.0.1", port_of(process))):
            app.write_text(app.read_text().replace("version 1", "version 2"))
            process.wait_for("Reloaded in")

        process.signal_group(signal.SIGINT)
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("how", "close"),
    [
        ("stop", Close(1012, "server stopping")),
        ("reload", Close(1012, "reloading")),
    ],
)
def test_a_handshake_that_is_under_way_is_told_of_the_end(
    tmp_path: Path, how: str, close: Close
) -> None:
    """A WebSocket that opens after all open ones were told is told as well."""
    app = write_app(
        tmp_path,
        more=TELLING
        + WEBSOCKETS
        + """
import pathlib
import time

@app.before_request
def wait():
    print("a handshake is under way", flush=True)
    while not pathlib.Path("go").exists():
        time.sleep(0.01)
""",
    )

    with wsrun(tmp_path, "--grace", "3600") as process:
        port = port_of(process)
        closes = []

        def open_and_wait() -> None:
            with connect(f"ws://127.0.0.1:{port}/echo", open_timeout=30) as client:
                with pytest.raises(ConnectionClosed) as closed:
                    client.recv(timeout=60)

                closes.append(closed.value.rcvd)

        opening = threading.Thread(target=open_and_wait)
        opening.start()
        process.wait_for("a handshake is under way")

        if how == "stop":
            process.signal_group(signal.SIGINT)
        else:
            app.write_text(app.read_text().replace("version 1", "version 2"))

        process.wait_for("draining")
        (tmp_path / "go").touch()
        opening.join(30)
        assert closes == [close]


@pytest.mark.parametrize("number", GROUP_SIGNALS)
def test_a_signal_to_all_processes_lets_websockets_end(
    tmp_path: Path, number: signal.Signals
) -> None:
    """None of the processes ends before its time, whatever sends the signal."""
    write_app(tmp_path, more=WEBSOCKETS)

    with wsrun(tmp_path) as process:
        with connect(f"ws://127.0.0.1:{port_of(process)}/echo") as client:
            client.send("hello")
            assert client.recv(timeout=60) == "hello"
            process.signal_group(number)

            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=60)

        assert closed.value.rcvd == Close(1012, "server stopping")
        assert process.wait() == 0
        assert process.members() == {}
        assert "Traceback" not in process.output


@pytest.mark.parametrize("number", GROUP_SIGNALS)
@pytest.mark.parametrize("loading", ["time.sleep(3600)", "while True: pass"])
def test_a_signal_to_all_processes_while_the_app_loads_ends_them_quietly(
    tmp_path: Path, number: signal.Signals, loading: str
) -> None:
    """The app's code sees nothing of the signal, and nothing is said of it."""
    (tmp_path / "app.py").write_text(
        f"import time\nprint('loading', flush=True)\n{loading}\n"
    )

    with wsrun(tmp_path) as process:
        process.wait_for("loading\n")
        process.signal_group(number)
        assert process.wait() == 0
        assert process.members() == {}
        assert process.output == "loading\n"


@pytest.mark.parametrize("number", GROUP_SIGNALS)
def test_a_signal_to_all_processes_as_they_start_ends_them_quietly(
    tmp_path: Path, number: signal.Signals
) -> None:
    """A process that has just begun leaves the signal to the command as well."""
    write_app(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(
        "import signal, sys, time\n"
        "if '-c' in sys.orig_argv:\n"
        "    print('it begins', flush=True)\n"
        "    while not signal.sigpending():\n"
        "        time.sleep(0.01)\n"
    )

    with wsrun(tmp_path, env={"PYTHONPATH": str(tmp_path)}) as process:
        process.wait_for("it begins\n")
        process.signal_group(number)
        assert process.wait() == 0
        assert process.members() == {}
        assert process.output == "it begins\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
@pytest.mark.parametrize("shell", ["", "trap '' HUP;"])
def test_programs_that_the_app_starts_get_the_signals_that_the_command_gets(
    tmp_path: Path, shell: str
) -> None:
    """None is blocked or ignored in them but those that 'nohup' has them ignore."""
    ask = ["grep", "Sig[BI]", "/proc/self/status"]
    write_app(
        tmp_path,
        more=f"""
import subprocess

@app.route("/signals")
def signals():
    return subprocess.check_output({ask})
""",
    )
    prefix = ["/bin/sh", "-c", f'{shell} exec "$@"', "sh"]
    flask = str(Path(sys.executable).parent / "flask")

    with Process(*prefix, flask, "wsrun", "--port", "0", cwd=tmp_path) as process:
        usual = subprocess.check_output([*prefix, *ask], text=True)
        status, text = get(port_of(process), "/signals")
        assert status == 200
        assert signals_in(text) == signals_in(usual)


def signals_in(text: str) -> list[tuple[str, int]]:
    """The sets of signals that Linux tells, without those of real time, of which the C
    library keeps some for itself.
    """
    fields = [line.split() for line in text.splitlines()]
    return [(name, int(digits, 16) & 0x7FFFFFFF) for name, digits in fields]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_processes_that_the_app_forks_obey_signals(
    tmp_path: Path, number: signal.Signals
) -> None:
    """What the server's processes pass over ends those of the app as ever."""
    write_app(
        tmp_path,
        more=f"""
import multiprocessing, os, signal

def work():
    try:
        print("working", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        os._exit(3)

workers = []

@app.route("/begin")
def begin():
    worker = multiprocessing.get_context("fork").Process(target=work)
    worker.start()
    workers.append(worker)
    return "begun"

@app.route("/end")
def end():
    os.kill(workers[0].pid, {int(number)})
    workers[0].join()
    return str(workers[0].exitcode)
""",
    )

    with wsrun(tmp_path) as process:
        port = port_of(process)
        assert get(port, "/begin") == (200, "begun")
        process.wait_for("working")
        status = "3" if number == signal.SIGINT else str(-number)
        assert get(port, "/end") == (200, status)


@pytest.mark.parametrize("crashes", [1, 2])
def test_a_crash_is_told_and_survived(tmp_path: Path, crashes: int) -> None:
    """A server that dies leaves a page that says so. If that dies, too, it is not
    replaced over and over, but by the next edit.
    """
    app = write_app(
        tmp_path,
        more="import os\n\n@app.route('/die')\ndef die():\n    os._exit(7)\n",
    )

    with wsrun(tmp_path) as process:
        port = port_of(process)

        with pytest.raises((http.client.HTTPException, OSError)):
            get(port, "/die")

        process.wait_for("ended by itself, with status 7")
        assert get(port)[0] == 500

        if crashes == 2:
            os.kill(server_of(process), signal.SIGKILL)
            process.wait_for(r"was ended by SIGKILL\. Waiting for a change\.")
            assert len(process.members()) == 2

        app.write_text(app.read_text().replace("version 1", "version 2"))
        process.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")
        assert process.output.count("Waiting for a change") == crashes


def server_of(process: Process) -> int:
    """The process that serves: the one with a parent other than the command."""
    for pid in process.members():
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()

        if int(stat[1]) != process.pid and pid != process.pid:
            return pid

    raise AssertionError("There is none.")


RAISING = """
from flask_sockets import Sockets

sockets = Sockets(app)

@sockets.route("/handler")
def handler(ws):
    raise RuntimeError("a mistake")

@sockets.route("/teardown")
def teardown_socket(ws):
    return "no", 403

@app.before_request
def before():
    from flask import request
    if request.path == "/hook":
        raise RuntimeError("a mistake")

@app.teardown_request
def teardown(error):
    from flask import request
    if request.path == "/teardown":
        raise RuntimeError("a mistake")
"""


def test_a_mistake_that_the_server_finds_has_a_traceback(tmp_path: Path) -> None:
    """Where no frame is the app's there are those of the server."""
    write_app(
        tmp_path,
        more="""
def respond(environ, start_response):
    start_response("200 OK", [])
    return [object()]

app.wsgi_app = respond
""",
    )

    with wsrun(tmp_path, "--no-debugger") as process:
        with contextlib.suppress(http.client.HTTPException):
            get(port_of(process))

        process.wait_for(
            r"^Traceback \(most recent call last\):\n"
            r'  File ".*gevent/pywsgi\.py", line \d+, in .*\n'
            r"(  .*\n)+"
            r"\w+Error: "
        )


@pytest.mark.parametrize("debugger", ["--debugger", "--no-debugger"])
@pytest.mark.parametrize("path", ["/handler", "/hook", "/teardown"])
def test_an_exception_before_the_handshake_is_shown_once(
    tmp_path: Path, path: str, debugger: str
) -> None:
    """In debug mode Flask hands it on. It is shown as Python does, beginning with the
    app, and the client gets a 500.
    """
    write_app(tmp_path, more=RAISING)

    with wsrun(tmp_path, debugger) as process:
        port = port_of(process)
        status, page = get(port, path, UPGRADE)
        assert status == 500
        assert "Werkzeug" not in page
        process.wait_for(
            r"^Traceback \(most recent call last\):\n"
            r'  File ".*flask/app\.py", line \d+, in __call__\n'
            r"(  .*\n)+"
            r"RuntimeError: a mistake\n"
            rf'127\.0\.0\.1 - - .* "GET {path} HTTP/1\.1" 500 -$'
        )
        assert process.output.count("Traceback") == 1
        assert process.output.count("RuntimeError: a mistake") == 1


@pytest.mark.parametrize("reload", ["--reload", "--no-reload"])
def test_interrupt_ends_everything_quietly(tmp_path: Path, reload: str) -> None:
    """Ctrl-C, which reaches every process, ends them all with status 0 and no word."""
    write_app(tmp_path)

    with wsrun(tmp_path, reload) as server:
        port = port_of(server)
        server.wait_for("Debugger PIN.*\n")
        get(port)
        server.wait_for('"GET / HTTP/1.1" 200 -\n')
        before = server.output
        assert len(server.members()) == 3
        server.signal_group(signal.SIGINT)
        assert server.wait() == 0
        assert server.output == before
        assert server.members() == {}


def test_interrupt_that_comes_doubled_counts_once(tmp_path: Path) -> None:
    """A program around the server that passes Ctrl-C on does not cut WebSockets."""
    write_app(tmp_path, more=WEBSOCKETS)

    with wsrun(tmp_path) as server:
        port = port_of(server)

        with connect(f"ws://127.0.0.1:{port}/echo") as client:
            client.send("hello")
            assert client.recv(timeout=60) == "hello"
            server.signal_group(signal.SIGINT)
            time.sleep(0.01)
            server.signal(signal.SIGINT)

            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=60)

        assert closed.value.rcvd == Close(1012, "server stopping")
        assert server.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_everything(tmp_path: Path, number: signal.Signals) -> None:
    """The command alone is told to end, and takes the processes below with it."""
    write_app(tmp_path)

    with wsrun(tmp_path) as server:
        port_of(server)
        server.signal(number)
        assert server.wait() == 0
        assert server.members() == {}


def test_interrupt_while_the_app_loads_ends_everything(tmp_path: Path) -> None:
    """An app that takes its time to load does not hold up Ctrl-C."""
    (tmp_path / "app.py").write_text(
        "import time\nprint('loading', flush=True)\nwhile True:\n    pass\n"
    )

    with wsrun(tmp_path) as server:
        server.wait_for("loading")
        server.signal_group(signal.SIGINT)
        assert server.wait() == 0
        assert server.members() == {}


def test_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    """The first Ctrl-C lets a request end, and says so, the second does not."""
    write_app(
        tmp_path,
        more="""
import time

@app.route("/slow")
def slow():
    print("slow has begun", flush=True)
    time.sleep(3600)
""",
    )

    with wsrun(tmp_path, "--grace", "3600") as server:
        port = port_of(server)

        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
            server.wait_for("slow has begun")
            server.signal_group(signal.SIGINT)

            server.wait_for(r"^ \* Waiting for 1 request \(Ctrl-C again to cut them\)$")
            assert len(server.members()) == 3
            server.signal_group(signal.SIGINT)
            assert server.wait() == 0
            assert server.members() == {}


@pytest.mark.parametrize("busy", [False, True])
def test_killed_command_takes_everything_with_it(tmp_path: Path, busy: bool) -> None:
    """Nothing is left when the command is killed, even while a view never yields."""
    write_app(
        tmp_path,
        more="""
@app.route("/stuck")
def stuck():
    print("stuck has begun", flush=True)
    while True:
        pass
""",
    )

    with wsrun(tmp_path) as server:
        port = port_of(server)

        with socket.create_connection(("127.0.0.1", port)) as client:
            if busy:
                client.sendall(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
                server.wait_for("stuck has begun")

            server.signal(signal.SIGKILL)
            assert server.wait() == -signal.SIGKILL
            until(lambda: not server.members(), "the processes to end")
