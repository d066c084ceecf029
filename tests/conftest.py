"""An app for tests of what apps do, apps served in this process for those that look at
both ends of a connection, how connections are served for those of the wire, and a
browser for those that look at pages.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import typing as t

import pytest
from flask import Flask
from websockets.sync.client import ClientConnection, connect
from werkzeug.serving import make_server, make_ssl_devcert

from flask_sockets import Sockets, SocketTestClient
from flask_sockets.wire import reader

from . import wire
from .process import program

if t.TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

CHROMIUM_ARGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many workers '-n auto' starts: more than processors, since the tests mostly
    wait for other processes."""
    return min(12, 3 * (os.cpu_count() or 1))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Call a test by its name, to which pytest-xdist adds '@' and a group: otherwise
    '--last-failed' would not find the test again."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        report.nodeid = report.nodeid.partition("@tests.")[0]


def pytest_configure() -> None:
    """Let servers that tests start take Ctrl-C: a shell that runs a script has what the
    script puts in the background ignore it, and so would their children."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Served:
    """An app that is being served on a free port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self.host = f"127.0.0.1:{port}"

    def connect(self, path: str, **options: t.Any) -> ClientConnection:
        """Open a WebSocket. Raises ``InvalidStatus`` if the server refuses."""
        url = f"ws://{self.host}{path}"
        return t.cast("ClientConnection", connect(url, **options))


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.config.update(TESTING=True, SECRET_KEY="secret")
    return app


@pytest.fixture
def sockets(app: Flask) -> Sockets:
    return Sockets(app)


@pytest.fixture
def client(app: Flask, sockets: Sockets) -> SocketTestClient:
    return t.cast(SocketTestClient, app.test_client())


@pytest.fixture
def serve() -> Iterator[t.Callable[[Flask], Served]]:
    """Serve apps with Werkzeug's threads until the end of the test."""
    with contextlib.ExitStack() as stack:

        def serve(app: Flask) -> Served:
            server = make_server("127.0.0.1", 0, app, threaded=True)
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            stack.callback(server.server_close)
            stack.callback(thread.join)
            stack.callback(server.shutdown)
            return Served(server.server_port)

        yield serve


@pytest.fixture(params=[wire.Threads, wire.Greenlets], ids=lambda cls: str(cls.name))
def flavour(request: pytest.FixtureRequest) -> Iterator[wire.Flavour]:
    """Both ways in which servers run handlers, one after the other."""
    yield from wire.flavours(request.param)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes is looked after soon, whatever the handler does."""
    monkeypatch.setattr(reader, "PATIENCE", 0.02)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks after what comes but a handler that receives."""
    monkeypatch.setattr(reader, "PATIENCE", 1000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium as the system has it."""
    executable = program(
        # It starts in half the time.
        *("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
    )
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=CHROMIUM_ARGS
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for 'localhost' that nobody has signed, and its key: two paths."""
    return make_ssl_devcert(str(tmp_path_factory.mktemp("tls") / "self"), "localhost")
