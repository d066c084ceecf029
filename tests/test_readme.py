"""Every command and snippet of the README is run here, as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import typing as t
import urllib.request
from pathlib import Path

import flask
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect, unix_connect
from werkzeug.serving import make_ssl_devcert

from flask_sockets import HandshakeRejected

from .process import Process, free_port, port_of, program
from .redis_server import RedisServer

if t.TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)

#: What is in each block of the README, and only there. Each has its test below.
MARKS: dict[str, tuple[str, str] | tuple[str, str, int]] = {
    "start": ("sh", "example_app wsrun"),
    "test": ("sh", ".venv/bin/pytest"),
    "smallest": ("python", "# app.py"),
    "smallest run": ("sh", "flask --app app wsrun --debug\n", 1),
    "page": ("html", "new WebSocket"),
    "wsrun": ("sh", "--cert adhoc"),
    "blueprint": ("python", "chat = Blueprint"),
    "session": ("python", "def news(ws)"),
    "gunicorn": ("sh", "gunicorn -k"),
    "pywsgi": ("python", "WSGIServer"),
    "nginx": ("nginx", "proxy_pass"),
    "proxyfix": ("python", "ProxyFix"),
    "view": ("python", "WebSocketView"),
    "topics": ("python", "def chat(ws, room)"),
    "commands": ("sh", "sockets listen"),
    "testing": ("python", "# test_app.py"),
}


def block(name: str) -> str:
    language, text, *lines = MARKS[name]
    (found,) = [
        body
        for block_language, body in BLOCKS
        if block_language == language
        and text in body
        and (not lines or len(body.splitlines()) == lines[0])
    ]
    return str(found)


def test_every_block_has_a_test() -> None:
    """What is added to the README is added here."""
    assert len(BLOCKS) == len({block(name) for name in MARKS}) == len(MARKS)


def run_python(name: str) -> dict[str, t.Any]:
    """Run a snippet as a module, and return its names."""
    names: dict[str, t.Any] = {"__name__": "app"}
    exec(compile(block(name), f"README.md: {name}", "exec"), names)
    return names


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the smallest app, as a reader of the README has it."""
    app = block("smallest") + "\ndef create_app():\n    return app\n"
    (tmp_path / "app.py").write_text(app)
    return tmp_path


def echoes(port: int, scheme: str = "ws", **options: t.Any) -> bool:
    with connect(f"{scheme}://127.0.0.1:{port}/echo", **options) as client:
        client.send("hello")
        return bool(client.recv(timeout=60) == "hello")


# The set-up commands


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone of the repository holds, and nothing that was made here."""
    folder = tmp_path_factory.mktemp("clone")
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listing.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


# The interpreter of the tests may itself be one of a virtual environment.
BARE = {
    "VIRTUAL_ENV": None,
    "PATH": os.pathsep.join(
        part
        for part in os.environ["PATH"].split(os.pathsep)
        if Path(part) != Path(sys.prefix, "bin")
    ),
}


@pytest.mark.timeout(400)
def test_the_first_command_starts_the_example(clone: Path) -> None:
    """On a machine that has only Python, by a copy of the line."""
    env = {**BARE, "FLASK_WSRUN_PORT": "0"}
    with Process(
        "/bin/sh", "-c", block("start"), cwd=clone, env=env, patience=300
    ) as process:
        port = port_of(process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as response:
            assert b"<title>" in response.read()
        assert echoes(port)


def test_the_second_command_runs_the_tests() -> None:
    """It installs what the tests need as well, and runs them; the rest is as in the
    first. Whoever runs the tests of a clone has run the line."""
    start, test = shlex.split(block("start")), shlex.split(block("test"))
    different = [
        (one, other) for one, other in zip(start, test, strict=False) if one != other
    ]
    assert different == [(".", ".[test]"), (".venv/bin/flask", ".venv/bin/pytest")]


# The smallest app, and flask wsrun


def test_the_smallest_app_runs(project: Path) -> None:
    """With the command that stands below it."""
    arguments = shlex.split(block("smallest run"))
    with Process(*arguments, cwd=project, env={"FLASK_WSRUN_PORT": "0"}) as process:
        assert echoes(port_of(process))


def test_the_page_gets_the_url_of_the_websocket() -> None:
    """The snippet is a template of the app."""
    app = run_python("smallest")["app"]
    with app.test_request_context("/", base_url="https://example.com"):
        page = flask.render_template_string(block("page"))
    assert 'new WebSocket("wss://example.com/echo")' in page


@pytest.mark.parametrize("command", block("wsrun").splitlines())
def test_the_options_of_wsrun_work(
    project: Path, command: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each command starts a server that echoes."""
    (project / "settings.toml").touch()
    for written, here in {
        "--port 8000": "--port 0",
        # Libraries that are here.
        "pandas": "cryptography.x509",
        "sqlalchemy.orm": "playwright",
    }.items():
        command = command.replace(written, here)

    arguments = shlex.split(command)
    env = {"FLASK_WSRUN_PORT": "0", "BROWSER": "true %s"}
    with Process(*arguments, cwd=project, env=env) as process:
        if "unix://" in command:
            process.wait_for("Press CTRL")
            with unix_connect(str(project / "app.sock"), "ws://localhost/echo") as ws:
                ws.send("hello")
                assert ws.recv(timeout=60) == "hello"
            return
        if "--cert" not in command:
            assert echoes(port_of(process))
            assert "can't be" not in process.output
            return
        import ssl

        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        assert echoes(port_of(process), "wss", ssl=context)


# Blueprints and sessions


def test_the_blueprint_asks_for_a_login() -> None:
    """And greets who has one."""
    client = run_python("blueprint")["app"].test_client()
    with pytest.raises(HandshakeRejected) as caught, client.websocket("/chat/lobby"):
        pass
    assert caught.value.response.status_code == 401
    with client.session_transaction() as session:
        session["user"] = "Ada"
    with client.websocket("/chat/lobby") as ws:
        assert ws.receive() == "Welcome to lobby, Ada."


def test_the_session_decides_who_may_connect() -> None:
    """A change in time travels with the answer, and so do the headers."""
    client = run_python("session")["app"].test_client()
    with pytest.raises(HandshakeRejected) as caught, client.websocket("/news"):
        pass
    assert caught.value.response.status_code == 401
    assert client.post("/login", data={"user": "Ada"}).text == "Welcome!"
    with client.websocket("/news") as ws:
        assert ws.receive() == "Hello Ada"
        assert ws.response.headers["X-News"] == "2"
    with client.session_transaction() as session:
        assert session["seen"]


# Deployment


@pytest.mark.parametrize("command", block("gunicorn").splitlines())
def test_the_commands_for_gunicorn_work(project: Path, command: str) -> None:
    """The one that installs it, and those that start the app."""
    arguments = shlex.split(command)
    env = {"GUNICORN_CMD_ARGS": "--bind 127.0.0.1:0", "PIP_NO_INDEX": "1"}
    with Process(*arguments, cwd=project, env=env) as process:
        if arguments[0] == "pip":
            assert process.wait() == 0
            return
        port = process.wait_for(r"Listening at: http://127.0.0.1:(\d+)")[1]
        assert echoes(int(port))


def test_gevents_own_server_works(project: Path) -> None:
    """With the handler class, by 'python app.py'."""
    port = free_port()
    app = block("pywsgi").replace("5000", str(port))
    echo = "sockets.add_url_rule('/echo', 'echo', lambda ws: ws.send(ws.receive()))\n"
    (project / "app.py").write_text(app.replace("\nif __name", f"\n{echo}\nif __name"))
    with Process(sys.executable, "app.py", cwd=project) as process:
        process.wait_until_listening(port)
        assert echoes(port)


def test_nginx_passes_websockets_on(project: Path) -> None:
    """With the location of the README, and the origin check satisfied."""
    nginx = program("nginx")
    command = "flask --app app wsrun"
    env = {"FLASK_WSRUN_PORT": "0"}
    port = free_port()
    with Process(*shlex.split(command), cwd=project, env=env) as server:
        location = block("nginx").replace("8000", str(port_of(server)))
        (project / "nginx.conf").write_text(
            f"pid {project}/nginx.pid; error_log stderr; daemon off; events {{}}\n"
            f"http {{ access_log off; server {{ listen 127.0.0.1:{port};\n"
            f"{location} }} }}\n"
        )
        arguments = [nginx, "-c", str(project / "nginx.conf"), "-p", str(project)]
        with Process(*arguments, cwd=project) as proxy:
            proxy.wait_until_listening(port)
            assert echoes(port, origin=f"http://127.0.0.1:{port}")
            with pytest.raises(InvalidStatus, match="403"):
                echoes(port, origin="http://evil.example")


def test_page_behind_nginx_with_tls_connects(project: Path, browser: Browser) -> None:
    """The page of the README, in a browser that opens only wss:// on an https page."""
    nginx, port = program("nginx"), free_port()
    certificate, key = make_ssl_devcert(str(project / "self"), "localhost")
    app = project / "app.py"
    app.write_text(
        f"{app.read_text()}\n{block('proxyfix')}\nimport flask\n"
        f"PAGE = {block('page')!r}\n"
        "app.add_url_rule('/', 'index', lambda: flask.render_template_string(PAGE))\n"
    )
    command = "flask --app app wsrun --port 0"
    with Process(*shlex.split(command), cwd=project) as server:
        location = block("nginx").replace("8000", str(port_of(server)))
        (project / "nginx.conf").write_text(
            f"pid {project}/nginx.pid; error_log stderr; daemon off; events {{}}\n"
            f"http {{ access_log off; server {{ listen 127.0.0.1:{port} ssl;\n"
            f"ssl_certificate {certificate}; ssl_certificate_key {key};\n"
            f"{location} }} }}\n"
        )
        arguments = [nginx, "-c", str(project / "nginx.conf"), "-p", str(project)]
        with (
            Process(*arguments, cwd=project) as proxy,
            browser.new_context(ignore_https_errors=True) as context,
        ):
            proxy.wait_until_listening(port)
            page = context.new_page()
            with page.expect_console_message(lambda m: m.text == "hello"):
                page.goto(f"https://localhost:{port}/")
            assert f"wss://localhost:{port}/echo" in page.content()


# Handlers that live for hours


def test_a_view_and_a_function_have_a_context_for_each_message() -> None:
    client = run_python("view")["app"].test_client()
    with pytest.raises(HandshakeRejected) as caught, client.websocket("/rooms/lobby"):
        pass
    assert caught.value.response.status_code == 401
    with client.session_transaction() as session:
        session["user"] = "ada"
    with client.websocket("/rooms/lobby") as one:
        with client.websocket("/rooms/lobby") as two:
            two.send("hello")
            assert one.receive() == two.receive() == "ada: hello"
        assert one.receive() == "ada has left."
    with client.websocket("/shout") as ws:
        ws.send("hello")
        assert ws.receive() == "HELLO"


# Sending to many


def test_what_is_published_reaches_all_that_are_subscribed() -> None:
    """And who comes later gets what was said before."""
    names = run_python("topics")
    client = names["app"].test_client()
    with pytest.raises(HandshakeRejected) as caught, client.websocket("/chat/lobby"):
        pass
    assert caught.value.response.status_code == 401
    with client.session_transaction() as session:
        session["user"] = "ada"
    with client.websocket("/chat/lobby") as one, client.websocket("/chat/lobby") as two:
        one.send("hello")
        assert one.receive() == two.receive() == "hello"
        assert names["sockets"].presence("chat/lobby") == {"ada": None}
    with client.websocket("/chat/lobby") as three:
        assert three.receive() == "hello"


def test_the_commands_reach_the_broker(tmp_path: Path) -> None:
    """Of the app in the snippet above them, on a Redis."""
    setting = "app.config.from_prefixed_env()\nsockets ="
    app = block("topics").replace("sockets =", setting)
    (tmp_path / "app.py").write_text(app)
    with RedisServer(tmp_path) as redis:
        env = {"FLASK_SOCKETS_BROKER": redis.url}
        publish, listen, *others = map(shlex.split, block("commands").splitlines())
        with Process(*listen, cwd=tmp_path, env=env) as listening:
            listening.wait_for("^Listening to 'chat/lobby'")
            with Process(*publish, cwd=tmp_path, env=env) as process:
                assert process.wait() == 0
            listening.wait_for("^Good morning$")
            for arguments in others:
                with Process(*arguments, cwd=tmp_path, env=env) as process:
                    assert process.wait() == 0, process.output


# Testing


def test_the_tests_pass(tmp_path: Path) -> None:
    """As a file of its own, by pytest, with nothing else around."""
    (tmp_path / "test_app.py").write_text(block("testing"))
    arguments = [sys.executable, "-m", "pytest", "-q", "-W", "error", "test_app.py"]
    result = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert "2 passed" in result.stdout, result.stdout
