"""The pages on the development server and on deploying."""

from __future__ import annotations

import contextlib
import re
import shlex
import sys
import typing as t
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import unix_connect
from werkzeug.serving import make_ssl_devcert

from ..documents import Document, echoes
from ..process import Process, free_port, port_of, program

if t.TYPE_CHECKING:
    from playwright.sync_api import Browser

README = Document("README.md")
WSRUN = Document("docs/wsrun.md")
DEPLOYING = Document("docs/deploying.md")

SMALLEST = README.find("# app.py")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the smallest app, as a reader of the README has it."""
    app = SMALLEST + "\ndef create_app():\n    return app\n"
    (tmp_path / "app.py").write_text(app)
    return tmp_path


# The development server


@pytest.mark.parametrize("command", WSRUN.find("--cert adhoc").splitlines())
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


# Deploying


@pytest.mark.parametrize("command", DEPLOYING.find("pip install").splitlines())
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
    app = DEPLOYING.find("WSGIServer").replace("5000", str(port))
    echo = "sockets.add_url_rule('/echo', 'echo', lambda ws: ws.send(ws.receive()))\n"
    (project / "app.py").write_text(app.replace("\nif __name", f"\n{echo}\nif __name"))
    with Process(sys.executable, "app.py", cwd=project) as process:
        process.wait_until_listening(port)
        assert echoes(port)


@contextlib.contextmanager
def behind_nginx(folder: Path, port: int, listen: str) -> t.Iterator[None]:
    """Run nginx with the file of the page in front of a server at a port.

    :param folder: where nginx may write.
    :param listen: what stands instead of 'listen'.
    """
    site = DEPLOYING.find("proxy_pass").replace("8000", str(port))
    assert "listen 80;" in site
    config = folder / "nginx.conf"
    config.write_text(
        f"pid {folder}/nginx.pid; error_log stderr; daemon off; events {{}}\n"
        f"http {{ access_log off; {site.replace('listen 80;', listen)} }}\n"
    )
    nginx = program("nginx")
    with Process(nginx, "-c", str(config), "-p", str(folder), cwd=folder) as proxy:
        found = re.search(r":(\d+)", listen)
        assert found is not None
        proxy.wait_until_listening(int(found[1]))
        yield


def test_nginx_passes_websockets_on(project: Path) -> None:
    """With the file of the page, and the origin check satisfied."""
    command = "flask --app app wsrun"
    env = {"FLASK_WSRUN_PORT": "0"}
    port = free_port()
    listen = f"listen 127.0.0.1:{port};"
    with (
        Process(*shlex.split(command), cwd=project, env=env) as server,
        behind_nginx(project, port_of(server), listen),
    ):
        assert echoes(port, origin=f"http://127.0.0.1:{port}")
        with pytest.raises(InvalidStatus, match="403"):
            echoes(port, origin="http://evil.example")


def test_page_behind_nginx_with_tls_connects(project: Path, browser: Browser) -> None:
    """The page of the README, in a browser that opens only wss:// on an https page."""
    port = free_port()
    certificate, key = make_ssl_devcert(str(project / "self"), "localhost")
    app = project / "app.py"
    app.write_text(
        f"{app.read_text()}\n{DEPLOYING.find('ProxyFix')}\nimport flask\n"
        f"PAGE = {README.find('new WebSocket')!r}\n"
        "app.add_url_rule('/', 'index', lambda: flask.render_template_string(PAGE))\n"
    )
    command = "flask --app app wsrun --port 0"
    with Process(*shlex.split(command), cwd=project) as server:
        listen = (
            f"listen 127.0.0.1:{port} ssl;"
            f"ssl_certificate {certificate}; ssl_certificate_key {key};"
        )
        with (
            behind_nginx(project, port_of(server), listen),
            browser.new_context(ignore_https_errors=True) as context,
        ):
            page = context.new_page()
            with page.expect_console_message(lambda m: m.text == "hello"):
                page.goto(f"https://localhost:{port}/")
            assert f"wss://localhost:{port}/echo" in page.content()
