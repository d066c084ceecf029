"""``flask wsrun`` as a person meets it: real processes, real files, real sockets."""

from __future__ import annotations

import http.client
import os
import py_compile
import re
import shutil
import signal
import socket
import ssl
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.frames import Close
from websockets.sync.client import connect

import flask_sockets

from ..process import Process, port_of, until

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="sends signals to process groups"
)

APP = """\
from flask import Flask

app = Flask(__name__)


@app.route("/")
def index():
    return "version {version}"


@app.route("/boom")
def boom():
    raise RuntimeError("boom in a view")
"""


WEBSOCKETS = """
from flask_sockets import Sockets

sockets = Sockets(app)


@sockets.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)
"""


def write_app(directory: Path, version: str = "1", more: str = "") -> Path:
    path = directory / "app.py"
    path.write_text(APP.format(version=version) + more)
    return path


def wsrun(directory: Path, *options: str, env: t.Any = None) -> Process:
    """The server, with debug mode and so with reload, on a free port."""
    return Process(
        "flask", "--debug", "wsrun", "--port", "0", *options, cwd=directory, env=env
    )


def get(
    port: int, path: str = "/", headers: t.Mapping[str, str] | None = None
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    try:
        connection.request("GET", path, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


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
    """An open WebSocket is closed with 1012 by a reload, with 1001 by Ctrl-C."""
    app = write_app(tmp_path, more=WEBSOCKETS)

    with wsrun(tmp_path) as server:
        server.wait_for(r"WebSockets on ws://127\.0\.0\.1:\d+ \(1 route\)")
        port = int(server.output.partition("ws://127.0.0.1:")[2].split()[0])

        with connect(f"ws://127.0.0.1:{port}/echo") as client:
            client.send("hello")
            assert client.recv(timeout=30) == "hello"
            app.write_text(app.read_text().replace("version 1", "version 2"))

            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=30)

        assert closed.value.rcvd == Close(1012, "reloading")
        server.wait_for("Reloaded in")

        with connect(f"ws://127.0.0.1:{port}/echo") as client:
            client.send("again")
            assert client.recv(timeout=30) == "again"
            server.signal_group(signal.SIGINT)

            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=30)

        assert closed.value.rcvd == Close(1001, "server stopping")
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
            assert client.recv(timeout=30) == "hello"
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
            assert client.recv(timeout=30) == b"hello"


# Mistakes


def fails(directory: Path, *arguments: str) -> tuple[int, str]:
    with Process("flask", *arguments, cwd=directory) as command:
        return command.wait(), command.output


def test_taken_port_is_one_sentence(tmp_path: Path) -> None:
    """A port in use is named, with the way out, and the status is 1."""
    write_app(tmp_path)

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, output = fails(tmp_path, "wsrun", "--port", str(port))

    assert status == 1
    assert output == (
        f"Error: Port {port} is in use by another program. Stop that program, or use"
        " another port with '--port'.\n"
    )


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "a" * 70])
def test_bad_host_is_one_sentence(tmp_path: Path, host: str) -> None:
    """A host that cannot be bound is named, and the status is 1."""
    write_app(tmp_path)
    status, output = fails(tmp_path, "wsrun", "--host", host)
    assert status == 1
    assert re.fullmatch(rf"Error: The host '{host}' is [^\n]*'--host'[^\n]*\n", output)


@pytest.mark.parametrize("debug", ["--debug", "--no-debug"])
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Could not locate a Flask application."),
        (["--app", "missing"], "Could not import 'missing'."),
        (["--app", "empty"], "Failed to find Flask application or factory"),
        (["--app", "factory"], "could not call it without arguments."),
        (["--app", "factory:create_app(1, 2)"], "could not be called with the"),
    ],
)
def test_app_that_is_not_found_is_one_sentence(
    tmp_path: Path, arguments: list[str], sentence: str, debug: str
) -> None:
    """Flask's own sentence is shown once and without a traceback; the status is 1."""
    (tmp_path / "empty.py").touch()
    (tmp_path / "factory.py").write_text("def create_app(config):\n    pass\n")
    status, output = fails(tmp_path, *arguments, debug, "wsrun", "--port", "0")
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


# Reloading


def test_edit_is_served(tmp_path: Path) -> None:
    """An edited module is named, loaded and served."""
    app = write_app(tmp_path)

    with wsrun(tmp_path) as server:
        port = port_of(server)
        app.write_text(app.read_text().replace("version 1", "version 22"))
        server.wait_for(r"^ \* Detected change in 'app\.py', reloading$")
        server.wait_for(r"^ \* Reloaded in \d+ ms$")
        assert get(port) == (200, "version 22")


def test_edit_of_equal_size_in_the_same_second_is_served(tmp_path: Path) -> None:
    """No .pyc stands for another source than the one that is there."""
    other = tmp_path / "other.py"

    def write_other(version: str) -> None:
        (tmp_path / "temporary").write_text(f"version = {version}\n")
        os.utime(tmp_path / "temporary", (1_700_000_000, 1_700_000_000))
        (tmp_path / "temporary").rename(other)

    write_other("0")
    # Another program has left one, as a test run or 'flask run' does.
    py_compile.compile(str(other))
    write_app(
        tmp_path,
        more="import other\n\n@app.route('/v')\ndef v():\n"
        "    return str(other.version)\n",
    )

    with wsrun(tmp_path) as server:
        port = port_of(server)

        for version in "12345":
            write_other(version)
            server.wait_for(r"Reloaded in")
            assert get(port, "/v") == (200, version)


def test_syntax_error_is_shown_and_mended(tmp_path: Path) -> None:
    """A mistake is shown in the terminal once and in the browser; mending it serves."""
    app = write_app(tmp_path)
    good = app.read_text()

    with wsrun(tmp_path) as server:
        port = port_of(server)
        app.write_text("def broken(:\n")
        server.wait_for(r"could not be loaded \(SyntaxError\)")

        for _ in range(2):
            status, page = get(port)
            assert status == 500
            assert "SyntaxError" in page
            assert "Werkzeug" in page

        status, text = get(port, headers=UPGRADE)
        assert status == 503
        assert "SyntaxError" in text
        assert server.output.count("SyntaxError: invalid") == 1
        app.write_text(good.replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")


@pytest.mark.parametrize(
    ("mistake", "name"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module\n", "ModuleNotFoundError"),
        ("raise LookupError('not there')\n", "LookupError"),
        ("import sys\nsys.exit('no configuration')\n", "SystemExit"),
    ],
)
def test_mistake_at_the_first_start_is_survived(
    tmp_path: Path, mistake: str, name: str
) -> None:
    """A server that starts with a mistake shows the true exception, and waits."""
    app = tmp_path / "app.py"
    app.write_text(mistake)

    with wsrun(tmp_path) as server:
        port = port_of(server)
        server.wait_for(rf"could not be loaded \({name}\)")
        assert server.output.count(f"{name}: ") == 1
        status, page = get(port)
        assert status == 500
        assert name in page
        write_app(tmp_path)
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 1")


def test_mistake_without_debugger_is_one_sentence(tmp_path: Path) -> None:
    """Without the debugger the browser gets the reason in plain text."""
    (tmp_path / "app.py").write_text("raise LookupError('not there')\n")

    with wsrun(tmp_path, "--no-debugger") as server:
        assert get(port_of(server)) == (
            500,
            "The app could not be loaded. LookupError: not there\n",
        )


def test_mistake_keeps_nobody_busy(tmp_path: Path) -> None:
    """An app that ends its process is loaded once and not over and over."""
    app = tmp_path / "app.py"
    app.write_text("import os\nos._exit(3)\n")

    with wsrun(tmp_path) as server:
        port = port_of(server)
        status, page = get(port)
        assert status == 500
        assert "ended by itself, with status 3" in page
        write_app(tmp_path)
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 1")
        assert server.output.count("with status 3") == 1
        assert app.exists()


def test_what_does_not_change_the_app_does_nothing(tmp_path: Path) -> None:
    """Touching, changed permissions, the same bytes, templates, editors' files: none
    of them reloads, as the next true edit shows.
    """
    app = write_app(tmp_path)
    (tmp_path / "templates").mkdir()
    template = tmp_path / "templates" / "page.html"
    template.write_text("old")

    with wsrun(tmp_path, "--exclude-patterns", "ignored") as server:
        port_of(server)
        app.touch()
        app.chmod(0o600)
        app.write_text(app.read_text())
        template.write_text("new")
        (tmp_path / ".#app.py").write_text("lock")
        (tmp_path / "app.py~").write_text("backup")
        (tmp_path / "4913").touch()
        (tmp_path / "__pycache__").mkdir(exist_ok=True)
        (tmp_path / "__pycache__" / "some.py").touch()
        (tmp_path / "ignored").mkdir()
        (tmp_path / "ignored" / "some.py").write_text("a = 1\n")
        (tmp_path / "env").mkdir()
        (tmp_path / "env" / "pyvenv.cfg").touch()
        (tmp_path / "env" / "some.py").write_text("a = 1\n")
        (tmp_path / "late.py").write_text("a = 1\n")
        server.wait_for("Detected change in 'late.py', reloading")
        server.wait_for("Reloaded in")
        assert server.output.count("Detected change") == 1


@pytest.mark.parametrize("how", ["rename", "move in", "package", "delete", "old"])
def test_every_way_to_change_a_file_reloads(tmp_path: Path, how: str) -> None:
    """Saving by renaming, new and moved and deleted files, and old times all count."""
    project = tmp_path / "project"
    project.mkdir()
    app = write_app(project)
    module = project / "module.py"
    module.write_text("a = 1\n")
    outside = tmp_path / "outside"
    outside.mkdir()

    with wsrun(project) as server:
        port_of(server)

        if how == "rename":
            (project / "temporary").write_text(app.read_text() + "# more\n")
            (project / "temporary").rename(app)
            server.wait_for(r"Detected change in 'app\.py'")
        elif how == "move in":
            (outside / "new").mkdir()
            (outside / "new" / "__init__.py").write_text("a = 1\n")
            (outside / "new").rename(project / "new")
            server.wait_for(r"Detected change in 'new/__init__\.py'")
        elif how == "package":
            (project / "new" / "deep").mkdir(parents=True)
            (project / "new" / "deep" / "some.py").write_text("a = 1\n")
            server.wait_for(r"Detected change in 'new/deep/some\.py'")
            server.wait_for("Reloaded in")
            (project / "new" / "deep" / "some.py").write_text("a = 2\n")
            server.wait_for(r"Detected change in 'new/deep/some\.py'")
        elif how == "delete":
            module.unlink()
            server.wait_for(r"Detected change in 'module\.py'")
        else:
            module.write_text("a = 2\n")
            os.utime(module, (1_500_000_000, 1_500_000_000))
            server.wait_for(r"Detected change in 'module\.py'")

        server.wait_for("Reloaded in")


def test_modules_from_elsewhere_are_watched(tmp_path: Path) -> None:
    """A module that is imported from outside of the app's directory counts, also when
    the import comes late or fails.
    """
    project = tmp_path / "project"
    library = tmp_path / "library"
    project.mkdir()
    (library / "tools").mkdir(parents=True)
    (library / "tools" / "__init__.py").touch()
    (library / "tools" / "late.py").write_text("value = 'old'\n")
    broken = library / "broken.py"
    broken.write_text("def broken(:\n")
    write_app(
        project,
        more="import broken\n\n@app.route('/late')\ndef late():\n"
        "    from tools import late\n    return late.value\n",
    )

    with wsrun(project, env={"PYTHONPATH": str(library)}) as server:
        port = port_of(server)
        broken.write_text("mended = True\n")
        server.wait_for(r"Detected change in '\.\./library/broken\.py'")
        server.wait_for("Reloaded in")
        assert get(port, "/late") == (200, "old")
        (library / "tools" / "late.py").write_text("value = 'new'\n")
        server.wait_for(r"Detected change in '\.\./library/tools/late\.py'")
        server.wait_for("Reloaded in")
        assert get(port, "/late") == (200, "new")


def test_extra_files_reload(tmp_path: Path) -> None:
    """Extra files count whatever they hold, and whether they exist yet or not."""
    write_app(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "conf" / "app.toml").write_text("a = 1")
    extra = os.pathsep.join(["conf", "data/*.json", "later.ini"])

    with wsrun(tmp_path, "--extra-files", extra) as server:
        port_of(server)

        for name in ("conf/app.toml", "data/new.json", "later.ini"):
            (tmp_path / name).write_text("something new")
            server.wait_for(rf"Detected change in '{name}'")
            server.wait_for("Reloaded in")


def test_burst_of_edits_is_one_reload(tmp_path: Path) -> None:
    """Sixteen files at once, as a checkout writes them, reload once or twice."""
    app = write_app(tmp_path)

    for number in range(16):
        (tmp_path / f"module{number}.py").write_text("a = 1\n")

    with wsrun(tmp_path) as server:
        port = port_of(server)

        for number in range(16):
            (tmp_path / f"module{number}.py").write_text("a = 2\n")

        server.wait_for("Reloaded in")
        app.write_text(app.read_text().replace("version 1", "version 2"))
        until(lambda: get(port) == (200, "version 2"), "the last edit")
        assert server.output.count("Detected change") <= 3


def test_edits_during_a_reload_are_not_lost(tmp_path: Path) -> None:
    """However soon an edit follows another, the last one is served in the end."""
    app = write_app(tmp_path, "0", more="import time\ntime.sleep(0.1)\n")
    text = app.read_text()

    with wsrun(tmp_path) as server:
        port = port_of(server)

        for number in range(1, 25):
            app.write_text(text.replace("version 0", f"version {number}"))
            time.sleep(0.013 * (number % 13))

        until(lambda: get(port) == (200, "version 24"), "the last edit")


def test_second_edit_is_never_lost(tmp_path: Path) -> None:
    """Whatever the gap after the first, from 50 to 850 ms."""
    app = write_app(tmp_path, "0")
    text = app.read_text()

    with wsrun(tmp_path) as server:
        port = port_of(server)

        for gap in range(50, 851, 50):
            app.write_text(text.replace("version 0", f"version {gap} first"))
            time.sleep(gap / 1000)
            app.write_text(text.replace("version 0", f"version {gap} second"))
            second = (200, f"version {gap} second")
            until(lambda wanted=second: get(port) == wanted, f"the edit after {gap} ms")


def test_no_connection_is_refused_or_cut_across_reloads(tmp_path: Path) -> None:
    """Requests that come while the server reloads are all answered."""
    app = write_app(tmp_path, "0")
    text = app.read_text()
    failures: list[Exception] = []
    answers: set[str] = set()
    done = threading.Event()

    def hammer() -> None:
        while not done.is_set():
            try:
                answers.add(get(port)[1])
            except Exception as error:
                failures.append(error)

    with wsrun(tmp_path) as server:
        port = port_of(server)
        threads = [threading.Thread(target=hammer) for _ in range(4)]

        for thread in threads:
            thread.start()

        for number in range(1, 11):
            app.write_text(text.replace("version 0", f"version {number}"))
            server.wait_for("Reloaded in")
            until(lambda n=number: f"version {n}" in answers, "an answer")

        done.set()

        for thread in threads:
            thread.join(30)

    assert failures == []


@pytest.mark.skipif(
    not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="the system can't defer accepting"
)
def test_connection_without_a_request_is_left_to_the_next_server(
    tmp_path: Path,
) -> None:
    """A client that connects before a reload may send its request after it."""
    app = write_app(tmp_path)

    with wsrun(tmp_path) as server:
        port = port_of(server)

        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            # Connections are accepted in turn.
            assert get(port) == (200, "version 1")
            app.write_text(app.read_text().replace("version 1", "version 2"))
            server.wait_for("Reloaded in")
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


def test_request_under_way_is_finished(tmp_path: Path) -> None:
    """A reload lets a request that has begun end, within the grace period."""
    app = write_app(
        tmp_path,
        more="""
import time

@app.route("/slow")
def slow():
    print("slow has begun", flush=True)
    time.sleep(0.5)
    return "slow"
""",
    )

    with wsrun(tmp_path, "--grace", "20") as server:
        port = port_of(server)
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(get(port, "/slow")))
        waiting.start()
        server.wait_for("slow has begun")
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        waiting.join(30)
        assert answers == [(200, "slow")]


def test_stuck_handler_does_not_hold_up_a_reload(tmp_path: Path) -> None:
    """A view that never yields is cut when the grace period is over."""
    app = write_app(
        tmp_path,
        more="""
@app.route("/stuck")
def stuck():
    print("stuck has begun", flush=True)
    while True:
        pass
""",
    )

    with wsrun(tmp_path, "--grace", "0.1") as server:
        port = port_of(server)

        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
            server.wait_for("stuck has begun")
            app.write_text(app.read_text().replace("version 1", "version 2"))
            server.wait_for("Reloaded in")

        assert get(port) == (200, "version 2")


def test_crash_is_told_and_survived(tmp_path: Path) -> None:
    """A server that dies leaves a page that says so, until the next edit."""
    app = write_app(
        tmp_path,
        more="import os\n\n@app.route('/die')\ndef die():\n    os._exit(7)\n",
    )

    with wsrun(tmp_path) as server:
        port = port_of(server)

        with pytest.raises((http.client.HTTPException, OSError)):
            get(port, "/die")

        server.wait_for("ended by itself, with status 7")
        assert get(port)[0] == 500
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")


def test_dotenv_files_are_read_again(tmp_path: Path) -> None:
    """An edited .env counts with its new values; the shell's values stay above it."""
    pytest.importorskip("dotenv")
    write_app(
        tmp_path,
        more="""
import os

@app.route("/env")
def env():
    return f"{os.environ.get('FROM_FILE')} {os.environ.get('FROM_SHELL')}"
""",
    )
    dotenv = tmp_path / ".env"
    dotenv.write_text("FROM_FILE=old\nFROM_SHELL=file\n")

    with wsrun(tmp_path, env={"FROM_SHELL": "shell"}) as server:
        port = port_of(server)
        assert get(port, "/env") == (200, "old shell")
        dotenv.write_text("FROM_FILE=new\nFROM_SHELL=file\n")
        server.wait_for(r"Detected change in '\.env'")
        server.wait_for("Reloaded in")
        assert get(port, "/env") == (200, "new shell")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_serves_where_processes_cannot_be_forked(
    tmp_path: Path, number: signal.Signals
) -> None:
    """A fresh interpreter for each load does all the same, only slower."""
    app = write_app(tmp_path)
    code = (
        "import flask_sockets_cli.supervisor as supervisor, flask.cli, sys\n"
        "class Supervisor(supervisor.Supervisor):\n"
        "    def __init__(self, settings, listener):\n"
        "        super().__init__(settings, listener, forks=False)\n"
        "supervisor.Supervisor = Supervisor\n"
        "sys.argv[:] = ['flask', '--debug', 'wsrun', '--port', '0']\n"
        "flask.cli.main()\n"
    )

    with Process(sys.executable, "-c", code, cwd=tmp_path) as server:
        port = port_of(server)
        assert get(port) == (200, "version 1")

        for version in (2, 3):
            old = f"version {version - 1}"
            app.write_text(app.read_text().replace(old, f"version {version}"))
            server.wait_for("Reloaded in")
            assert get(port) == (200, f"version {version}")

        app.write_text("import os\nos._exit(3)\n")
        server.wait_for("could not be loaded")
        assert get(port)[0] == 500
        write_app(tmp_path)
        server.wait_for("Reloaded in")
        assert len(server.members()) == 2

        if number == signal.SIGKILL:
            server.signal(number)
            assert server.wait() == -number
        else:
            server.signal_group(number)
            assert server.wait() == 0

        until(lambda: not server.members(), "the processes to end")


def test_edit_before_a_directory_is_watched_is_not_lost(tmp_path: Path) -> None:
    """What is edited between its import and the watching is loaded again."""
    project = tmp_path / "project"
    library = tmp_path / "library"
    project.mkdir()
    library.mkdir()
    module = library / "module.py"
    module.write_text("version = 'old'\n")
    write_app(
        project,
        more="import module, pathlib\n\n@app.route('/v')\ndef v():\n"
        "    return module.version\n\n"
        "# Nobody watches it until this app is loaded.\n"
        "pathlib.Path(module.__file__).write_text(\"version = 'new'\\n\")\n",
    )

    with wsrun(project, env={"PYTHONPATH": str(library)}) as server:
        # What is outdated when it has been loaded is never served.
        server.wait_for(r"Detected change in '\.\./library/module\.py'")
        assert get(port_of(server), "/v") == (200, "new")


def test_change_of_what_is_kept_warm_is_served(tmp_path: Path) -> None:
    """A module that the warm process has imported itself is imported anew."""
    library = tmp_path / "library"
    # As a checkout of a library that somebody works on.
    shutil.copytree(Path(flask_sockets.__file__).parent, library / "flask_sockets")
    module = library / "flask_sockets" / "exceptions.py"
    project = tmp_path / "project"
    project.mkdir()
    write_app(
        project,
        more="from flask_sockets import exceptions\n\n@app.route('/v')\ndef v():\n"
        "    return getattr(exceptions, 'version', 'old')\n",
    )

    with wsrun(project, env={"PYTHONPATH": str(library)}) as server:
        port = port_of(server)
        assert get(port, "/v") == (200, "old")

        for version in ("new", "newer"):
            module.write_text(f"{module.read_text()}\nversion = {version!r}\n")
            server.wait_for(r"Detected change in '.*exceptions\.py'")
            server.wait_for("Reloaded in")
            assert get(port, "/v") == (200, version)


def test_secrets_are_not_in_the_list_of_processes(tmp_path: Path) -> None:
    """Other users can read the command lines of all processes, but no value of .env."""
    pytest.importorskip("dotenv")
    write_app(tmp_path)
    (tmp_path / ".env").write_text("SECRET_KEY=very-secret\n")

    with wsrun(tmp_path) as server:
        port_of(server)

        for pid in server.members():
            assert b"very-secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()


# The end


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
            assert client.recv(timeout=30) == "hello"
            server.signal_group(signal.SIGINT)
            time.sleep(0.01)
            server.signal(signal.SIGINT)

            with pytest.raises(ConnectionClosed) as closed:
                client.recv(timeout=30)

        assert closed.value.rcvd == Close(1001, "server stopping")
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
    """The first Ctrl-C lets a request end, the second does not."""
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

            # The first has been heard when new connections are accepted no more.
            def refuses() -> bool:
                with socket.create_connection(("127.0.0.1", port)) as other:
                    other.settimeout(0.2)
                    other.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")

                    try:
                        return not other.recv(1)
                    except TimeoutError:
                        return True

            until(refuses, "the server to stop accepting")
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
