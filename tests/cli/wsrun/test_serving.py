"""``flask wsrun`` as a person meets it: real processes, real files, real sockets."""

from __future__ import annotations

import concurrent.futures
import http.client
import re
import signal
import socket
import ssl
import sys
import threading
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.sync.client import connect

from ...process import Process, port_of, until
from ..apps import APP, UPGRADE, WEBSOCKETS, get, write_app, wsrun

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="sends signals to process groups"
)


# The banner


def test_banner_tells_what_is_served_and_where(tmp_path: Path) -> None:
    """The banner has the app, debug mode, both addresses, the reloader and the PIN."""
    write_app(tmp_path)

    with Process(
        "flask", "--app", "app", "--debug", "wsrun", "--port", "0", cwd=tmp_path
    ) as server:
        server.wait_for(r"^ \* Serving Flask app 'app'$")
        server.wait_for(r"^ \* Debug mode: on$")
        server.wait_for(r"^WARNING: This is a development server")
        port = server.wait_for(r"^ \* Running on http://127.0.0.1:(\d+)$")[1]
        server.wait_for(rf"^ \* WebSockets on ws://127.0.0.1:{port} \(0 routes\)$")
        server.wait_for(r"^Press CTRL\+C to quit$")
        server.wait_for(r"^ \* Reloading with watchdog$")
        server.wait_for(r"^ \* Debugger PIN: \d{3}-\d{3}-\d{3}$")
        assert get(int(port)) == (200, "version 1")


def test_banner_is_shown_once(tmp_path: Path) -> None:
    """A reload does not repeat the banner, nor the PIN."""
    app = write_app(tmp_path)

    with wsrun(tmp_path) as server:
        port_of(server)
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for(r"Reloaded in \d+ ms")
        assert server.output.count("Running on") == 1
        assert server.output.count("PIN") == 1


def test_all_addresses_are_shown_for_0_0_0_0(tmp_path: Path) -> None:
    """The host that stands for all addresses is shown with one that can be opened."""
    write_app(tmp_path)

    with wsrun(tmp_path, "--host", "0.0.0.0") as server:
        server.wait_for(r"Running on all addresses \(0\.0\.0\.0\)")
        port = int(server.wait_for(r"Running on http://127\.0\.0\.1:(\d+)")[1])
        assert get(port) == (200, "version 1")


def test_ipv6_host_is_served(tmp_path: Path) -> None:
    """An IPv6 host is bound, and shown in brackets."""
    write_app(tmp_path)

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")

    with wsrun(tmp_path, "--host", "::1") as server:
        port = int(server.wait_for(r"Running on http://\[::1\]:(\d+)")[1])
        connection = http.client.HTTPConnection("::1", port, timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"version 1"
        connection.close()


def test_websocket_routes_are_listed(tmp_path: Path) -> None:
    """'--routes' lists them at the start, and again when an edit has changed them."""
    app = write_app(tmp_path, more=WEBSOCKETS)

    with wsrun(tmp_path, "--routes") as server:
        server.wait_for(
            r"   Endpoint  WebSocket rule\n"
            r"   --------  --------------\n"
            r"   echo      /echo\n"
        )
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        app.write_text(app.read_text().replace('"/echo"', '"/<room>", subdomain="x"'))
        server.wait_for("Reloaded in")
        server.wait_for(
            r"   Endpoint  Domain  WebSocket rule\n"
            r"   --------  ------  --------------\n"
            r"   echo      x       /<room>\n"
        )
        assert server.output.count("Endpoint") == 2


def test_missing_websocket_routes_are_told(tmp_path: Path) -> None:
    """'--routes' of an app without any says so."""
    write_app(tmp_path)

    with wsrun(tmp_path, "--routes") as server:
        server.wait_for("No WebSocket routes were registered")


def test_browser_is_opened_once(tmp_path: Path) -> None:
    """'--open' opens the address of the banner, and a reload does not open it again."""
    app = write_app(tmp_path)
    opened = tmp_path / "opened.txt"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" >> {opened}\n')
    browser.chmod(0o755)

    with wsrun(tmp_path, "--open", env={"BROWSER": f"{browser} %s"}) as server:
        port = port_of(server)
        url = f"http://127.0.0.1:{port}\n"
        until(lambda: opened.exists() and opened.read_text() == url, "the browser")
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")
        assert opened.read_text() == url


def test_missing_browser_is_told(tmp_path: Path) -> None:
    """'--open' without a browser serves all the same."""
    write_app(tmp_path)

    with wsrun(tmp_path, "--open", env={"BROWSER": "/no/such/browser %s"}) as server:
        port = port_of(server)
        assert get(port) == (200, "version 1")
        server.wait_for(f"No browser could be opened for http://127.0.0.1:{port}")


def test_malformed_request_is_logged_as_such(tmp_path: Path) -> None:
    """What is no HTTP gets a 400 and its line."""
    write_app(tmp_path)

    with (
        wsrun(tmp_path) as server,
        socket.create_connection(("127.0.0.1", port_of(server))) as client,
    ):
        client.sendall(b"NONSENSE\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400 ")
        server.wait_for('"NONSENSE" 400 -')
        assert "Traceback" not in server.output


# The process that serves


def test_served_app_is_patched_and_nothing_warns(tmp_path: Path) -> None:
    """gevent has patched the standard library before anything else could warn it."""
    write_app(
        tmp_path,
        more="""
import threading
from gevent import monkey

@app.route("/patched")
def patched():
    return f"{monkey.is_module_patched('socket')} {type(threading.Lock()).__module__}"
""",
    )

    with Process(
        str(Path(sys.executable)),
        *("-W", "error", "-m", "flask", "--debug", "wsrun", "--port", "0"),
        cwd=tmp_path,
    ) as server:
        port = port_of(server)
        assert get(port, "/patched") == (200, "True gevent.thread")
        assert "Warning" not in server.output


def test_requests_are_served_at_the_same_time(tmp_path: Path) -> None:
    """A request that sleeps leaves the server to others."""
    write_app(
        tmp_path,
        more="""
import threading
event = threading.Event()

@app.route("/wait")
def wait():
    return str(event.wait(30))

@app.route("/set")
def set_event():
    event.set()
    return "set"
""",
    )

    with wsrun(tmp_path) as server:
        port = port_of(server)
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(get(port, "/wait")))
        waiting.start()
        assert get(port, "/set") == (200, "set")
        waiting.join(30)
        assert answers == [(200, "True")]


@pytest.mark.parametrize(
    ("arguments", "cwd"),
    [
        (["--app", "src/shop.py:make('2')"], "."),
        (["--app", "shop:make('2')"], "src"),
        (["--app", "pkg.web:made"], "."),
    ],
)
def test_app_is_found_as_with_flask_run(
    tmp_path: Path, arguments: list[str], cwd: str
) -> None:
    """Paths, factories with arguments and dotted names work in the other process."""
    source = APP.format(version="2").replace("app", "made")
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").touch()
    (tmp_path / "pkg" / "web.py").write_text(source)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "helper.py").touch()
    (tmp_path / "src" / "shop.py").write_text(
        f"import helper\n{source}\n\ndef make(version):\n"
        "    assert version == '2'\n    return made\n"
    )

    with Process(
        "flask", *arguments, "wsrun", "--port", "0", cwd=tmp_path / cwd
    ) as server:
        assert get(port_of(server)) == (200, "version 2")


def test_factory_of_a_command_line_of_its_own_is_served(tmp_path: Path) -> None:
    """A FlaskGroup made with 'create_app' serves that app."""
    (tmp_path / "manage.py").write_text(
        APP.format(version="3") + "\n\ndef make():\n    return app\n\n\n"
        "if __name__ == '__main__':\n"
        "    from flask.cli import FlaskGroup\n"
        "    FlaskGroup(create_app=make)()\n"
    )

    with Process(
        sys.executable, "manage.py", "wsrun", "--port", "0", cwd=tmp_path
    ) as server:
        assert get(port_of(server)) == (200, "version 3")


GROUP = """
import functools
from flask.cli import FlaskGroup

def make(app):
    return app

class Factory:
    def __call__(self):
        return app

cli = FlaskGroup(create_app={factory})
"""


@pytest.mark.parametrize(
    "factory", ["lambda: app", "functools.partial(make, app)", "Factory()"]
)
@pytest.mark.parametrize("script", ["manage.py", "script.py"])
def test_factory_without_a_name_is_served_and_reloaded(
    tmp_path: Path, factory: str, script: str
) -> None:
    """Its command line has one, in the module that is run or in another."""
    module = tmp_path / "manage.py"
    text = APP.format(version="1") + GROUP.format(factory=factory)
    module.write_text(f"{text}\nif __name__ == '__main__':\n    cli()\n")
    (tmp_path / "script.py").write_text("from manage import cli\ncli()\n")
    options = ("--debug", "wsrun", "--port", "0")

    with Process(sys.executable, script, *options, cwd=tmp_path) as server:
        port = port_of(server)
        assert get(port) == (200, "version 1")
        module.write_text(module.read_text().replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")


def test_factory_that_cannot_be_imported_is_one_sentence(tmp_path: Path) -> None:
    """Neither it nor its command line has a name."""
    (tmp_path / "manage.py").write_text(
        "from flask.cli import FlaskGroup\nFlaskGroup(create_app=lambda: None)()\n"
    )

    with Process(sys.executable, "manage.py", "wsrun", cwd=tmp_path) as server:
        assert server.wait() == 2
        assert "can't be imported by the process that serves" in server.output
        assert "Traceback" not in server.output


def test_debugger_shows_an_exception_with_its_console(tmp_path: Path) -> None:
    """An exception in a view is shown in the browser and in the terminal."""
    write_app(tmp_path)

    with wsrun(tmp_path) as server:
        port = port_of(server)
        status, page = get(port, "/boom")
        assert status == 500
        assert "boom in a view" in page
        assert "EVALEX = true" in page
        server.wait_for("RuntimeError: boom in a view")


def test_debugger_stays_out_of_websockets(tmp_path: Path) -> None:
    """An upgrade request that fails does not get the debugger's page."""
    write_app(
        tmp_path,
        more="""
@app.before_request
def hook():
    raise RuntimeError("in a hook")
""",
    )

    with wsrun(tmp_path) as server:
        port = port_of(server)
        status, page = get(port, "/")
        assert status == 500
        assert "Werkzeug" in page
        status, page = get(port, "/", UPGRADE)
        assert status == 500
        assert "Werkzeug" not in page
        server.wait_for("RuntimeError: in a hook")


def test_no_debugger_without_debug_mode(tmp_path: Path) -> None:
    """Without debug mode there is neither a debugger nor a reloader."""
    write_app(tmp_path)

    with Process("flask", "wsrun", "--port", "0", cwd=tmp_path) as server:
        port = port_of(server)
        status, page = get(port, "/boom")
        assert status == 500
        assert "boom in a view" not in page
        assert "Debug mode: off" in server.output
        assert "Reloading with" not in server.output


def test_adhoc_certificate_serves_https(tmp_path: Path) -> None:
    """'--cert adhoc' serves HTTPS, and keeps its certificate across a reload."""
    app = write_app(tmp_path)
    context = ssl._create_unverified_context()

    def get_secure(port: int) -> tuple[bytes, bytes | None]:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, context=context, timeout=30
        )
        connection.request("GET", "/")
        body = connection.getresponse().read()
        certificate = connection.sock.getpeercert(True)
        connection.close()
        return body, certificate

    with wsrun(tmp_path, "--cert", "adhoc") as server:
        port = int(server.wait_for(r"Running on https://127\.0\.0\.1:(\d+)")[1])
        server.wait_for(rf"wss://127\.0\.0\.1:{port}")
        body, certificate = get_secure(port)
        assert body == b"version 1"
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        assert get_secure(port) == (b"version 2", certificate)


def test_plain_http_to_a_secure_server_is_one_line(tmp_path: Path) -> None:
    """A client that does not speak TLS leaves no traceback."""
    write_app(tmp_path)

    with wsrun(tmp_path, "--cert", "adhoc") as server:
        port = port_of(server)

        with pytest.raises((http.client.HTTPException, OSError)):
            get(port)

        server.wait_for(r"TLS error from 127\.0\.0\.1: ")
        assert "Traceback" not in server.output


def test_websockets_are_told_of_a_reload_and_of_the_end(tmp_path: Path) -> None:
    """A reload and Ctrl-C close open WebSockets with 1012, which means "come again"."""
    app = write_app(tmp_path, more=WEBSOCKETS)

    with wsrun(tmp_path) as server:
        server.wait_for(r"WebSockets on ws://127\.0\.0\.1:\d+ \(1 route\)")
        port = int(server.output.partition("ws://127.0.0.1:")[2].split()[0])

        with connect(f"ws://127.0.0.1:{port}/echo") as client:
            client.send("hello")
            assert client.recv(timeout=60) == "hello"
            app.write_text(app.read_text().replace("version 1", "version 2"))

            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=60)

        assert closed.value.rcvd == Close(1012, "reloading")
        server.wait_for("Reloaded in")

        with connect(f"ws://127.0.0.1:{port}/echo") as client:
            client.send("again")
            assert client.recv(timeout=60) == "again"
            server.signal_group(signal.SIGINT)

            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=60)

        assert closed.value.rcvd == Close(1012, "server stopping")
        assert server.wait() == 0
        assert "Traceback" not in server.output


def test_a_websocket_is_logged_when_it_opens_and_when_it_ends(tmp_path: Path) -> None:
    """The second line says why it ended, who closed it, and what went each way."""
    write_app(tmp_path, more=WEBSOCKETS)

    with wsrun(tmp_path) as server:
        with connect(f"ws://127.0.0.1:{port_of(server)}/echo") as client:
            server.wait_for(r'"GET /echo HTTP/1\.1" 101 -\n')
            assert '"WebSocket /echo"' not in server.output
            client.send("hello")
            assert client.recv(timeout=60) == "hello"
            client.close(4001, "enough\x1b[31m")

        server.wait_for(
            r'"WebSocket /echo" closed by the client with 4001'
            r" \(private use: enough\\x1b\[31m\) after \d+\.\d s,"
            r" 1 message of 5 bytes in, 1 message of 5 bytes out\n"
        )


def test_websockets_work_with_tls(tmp_path: Path) -> None:
    """wss:// works where https:// does."""
    write_app(tmp_path, more=WEBSOCKETS)

    with wsrun(tmp_path, "--cert", "adhoc") as server:
        port = port_of(server)

        with connect(
            f"wss://127.0.0.1:{port}/echo", ssl=ssl._create_unverified_context()
        ) as client:
            client.send(b"hello")
            assert client.recv(timeout=60) == b"hello"


@pytest.mark.skipif(sys.platform != "linux", reason="a file of Linux'")
def test_processes_say_what_they_are(tmp_path: Path) -> None:
    """In 'ps', which would call them all 'python'."""
    write_app(tmp_path)

    with wsrun(tmp_path) as server:
        port_of(server)
        names = {Path(f"/proc/{pid}/comm").read_text() for pid in server.members()}

    assert names == {"wsrun: watches\n", "wsrun: warm\n", "wsrun: serves\n"}


# Mistakes


def fails(directory: Path, *arguments: str) -> tuple[int, str]:
    with Process("flask", *arguments, cwd=directory) as command:
        return command.wait(), command.output


def test_taken_port_is_one_sentence(tmp_path: Path) -> None:
    """A port in use is named, with one that is free, and the status is 1."""
    write_app(tmp_path)

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, output = fails(tmp_path, "wsrun", "--port", str(port))

    assert status == 1
    match = re.fullmatch(
        rf"Error: Port {port} is in use by another program\. Stop that program, or use"
        r" '--port (\d+)', which is free\.\n",
        output,
    )
    assert match is not None
    assert port < int(match[1]) < port + 21


@pytest.mark.parametrize("answer", ["", "n"])
def test_another_port_is_offered_in_a_terminal(tmp_path: Path, answer: str) -> None:
    """It is served there, unless the person doesn't want it."""
    write_app(tmp_path)

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        command = ("flask", "wsrun", "--port", str(port))

        with Process(*command, cwd=tmp_path, keyboard=True) as server:
            match = server.wait_for(
                rf"Port {port} is in use by another program\. Use port (\d+) instead\?"
            )
            server.type(f"{answer}\n")

            if answer == "n":
                server.wait_for("Aborted!")
                assert server.wait() == 1
            else:
                assert port_of(server) == int(match[1])
                assert get(int(match[1])) == (200, "version 1")


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a" * 70])
def test_bad_host_is_one_sentence(tmp_path: Path, host: str) -> None:
    """A host that cannot be bound is named, and the status is 1."""
    write_app(tmp_path)
    status, output = fails(tmp_path, "wsrun", "--host", host)
    assert status == 1
    assert re.fullmatch(rf"Error: The host '{host}' is [^\n]*'--host'[^\n]*\n", output)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--no-debug"], "Could not locate a Flask application."),
        (["--debug"], "Could not locate a Flask application."),
        (["--debug", "--app", "missing"], "Could not import 'missing'."),
        (["--debug", "--app", "empty"], "Failed to find Flask application or factory"),
        (["--debug", "--app", "factory"], "could not call it without arguments."),
        (["--debug", "--app", "factory:create_app(1, 2)"], "be called with the"),
    ],
)
def test_app_that_is_not_found_is_one_sentence(
    tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    """Flask's own sentence is shown once and without a traceback; the status is 1."""
    (tmp_path / "empty.py").touch()
    (tmp_path / "factory.py").write_text("def create_app(config):\n    pass\n")
    status, output = fails(tmp_path, *arguments, "wsrun", "--port", "0")
    assert status == 1
    assert output.startswith("Error: ")
    assert output.count(sentence) == 1
    assert output.count("\n") == 1


def test_exception_without_reload_ends_the_command(tmp_path: Path) -> None:
    """Without the reloader an app that does not load is shown, and the status is 1."""
    write_app(tmp_path, more="raise LookupError('not there')\n")
    status, output = fails(tmp_path, "wsrun", "--port", "0")
    assert status == 1
    assert output.count("LookupError: not there") == 1
    assert "Running on" not in output
    # The frames of the server and of Flask say nothing about the app.
    assert output.count("  File ") == 1


def test_bad_certificate_is_one_sentence(tmp_path: Path) -> None:
    """Files that are no certificate are named, and the status is 1."""
    write_app(tmp_path)
    cert = tmp_path / "cert.pem"
    key = tmp_path / "key.pem"
    cert.write_text("nothing")
    key.write_text("nothing")
    status, output = fails(tmp_path, "wsrun", "--cert", str(cert), "--key", str(key))
    assert status == 1
    assert output.startswith(f"Error: The certificate '{cert}' cannot be used")
    assert output.count("\n") == 1


# Mistakes that would end a program

EXITING = """
import sys
import click
from flask_sockets import Sockets

sockets = Sockets(app)

@click.command()
def command():
    click.echo("the command has run")

@app.route("/exit")
def exit_at_once():
    sys.exit(3)

@app.route("/command")
def run_command():
    command([])

@app.route("/interrupt")
def interrupt():
    raise KeyboardInterrupt

@app.route("/stream")
def stream():
    def parts():
        yield "one"
        sys.exit(3)

    return parts()

@sockets.route("/socket")
def socket(ws):
    ws.send("hello")
    sys.exit(3)
"""


@pytest.mark.parametrize("debugger", ["--debugger", "--no-debugger"])
@pytest.mark.parametrize("path", ["/exit", "/command", "/interrupt"])
def test_view_that_would_end_a_program_ends_its_request(
    tmp_path: Path, path: str, debugger: str
) -> None:
    """It gets a 500, the terminal has the traceback, and all others are served."""
    write_app(tmp_path, more=EXITING)

    with wsrun(tmp_path, debugger) as server:
        port = port_of(server)
        status, text = get(port, path)
        assert status == 500
        assert ("AppExited" in text) is (debugger == "--debugger")
        server.wait_for(r'File ".*app\.py", line \d+, in ')
        server.wait_for("(SystemExit|KeyboardInterrupt)")
        server.wait_for(f'"GET {path} HTTP/1.1" 500')
        assert get(port) == (200, "version 1")
        assert "ended by itself" not in server.output


def test_stream_that_would_end_a_program_ends_its_response(tmp_path: Path) -> None:
    """What was sent is there, and all others are served."""
    write_app(tmp_path, more=EXITING)

    with wsrun(tmp_path) as server:
        port = port_of(server)

        with pytest.raises(http.client.IncompleteRead):
            get(port, "/stream")

        server.wait_for("SystemExit: 3")
        assert get(port) == (200, "version 1")
        assert "ended by itself" not in server.output


def test_handler_that_would_end_a_program_ends_its_websocket(tmp_path: Path) -> None:
    """The client gets a Close frame, and all others are served."""
    write_app(tmp_path, more=EXITING)

    with wsrun(tmp_path) as server:
        port = port_of(server)

        with connect(f"ws://127.0.0.1:{port}/socket") as client:
            assert client.recv(timeout=60) == "hello"

            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=60)

        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1011, 1012)
        server.wait_for("SystemExit")
        assert get(port) == (200, "version 1")
        assert "ended by itself" not in server.output


def test_async_views_of_an_app_without_websockets_wait_at_the_same_time(
    tmp_path: Path,
) -> None:
    """Though greenlets share a thread, and a thread has one event loop."""
    pytest.importorskip("asgiref")
    write_app(
        tmp_path,
        more="""
import asyncio
waiting = []

@app.route("/meet")
async def meet():
    waiting.append(1)
    while len(waiting) < 3:
        await asyncio.sleep(0.01)
    return "met"
""",
    )

    with wsrun(tmp_path) as server:
        port = port_of(server)

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            answers = list(pool.map(lambda _: get(port, "/meet"), range(3)))

        assert answers == [(200, "met")] * 3


RUNS_LOOPS = """
import asyncio, pathlib

async def wait():
    pathlib.Path("waiting").touch()
    while not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    return "done"

@app.route("/wait")
def wait_for_file():
    return asyncio.run(wait())
"""


def test_second_event_loop_is_explained(tmp_path: Path) -> None:
    """Two views can't be in 'asyncio.run()' at once. The traceback says the way out."""
    write_app(tmp_path, more=RUNS_LOOPS)

    with (
        wsrun(tmp_path) as server,
        concurrent.futures.ThreadPoolExecutor() as threads,
    ):
        port = port_of(server)
        first = threads.submit(get, port, "/wait")
        until((tmp_path / "waiting").exists, "the first view to run its loop")
        assert get(port, "/wait")[0] == 500
        server.wait_for(r"Another request may have been in 'asyncio\.run\(\)'")
        (tmp_path / "go").touch()
        assert first.result(timeout=30) == (200, "done")
