"""What the command listens with: sockets that have a path."""

from __future__ import annotations

import http.client
import os
import signal
import socket
from pathlib import Path

import click
import pytest
from websockets.sync.client import unix_connect

from flask_sockets_cli.listener import open_listener

from ..process import Process, until
from .apps import WEBSOCKETS, write_app

pytestmark = pytest.mark.skipif(
    not hasattr(socket, "AF_UNIX"), reason="there are no sockets with a path"
)


class PathConnection(http.client.HTTPConnection):
    """HTTP over a socket that has a path."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def get(path: Path, url: str = "/") -> str:
    connection = PathConnection(path)

    try:
        connection.request("GET", url)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_socket_with_a_path_is_served(tmp_path: Path) -> None:
    """HTTP and WebSockets are served, across reloads, until the socket is removed."""
    app = write_app(tmp_path, more=WEBSOCKETS)
    path = tmp_path / "app.sock"

    with Process(
        *("flask", "--debug", "wsrun", "--host", "unix://app.sock"), cwd=tmp_path
    ) as server:
        server.wait_for(r"Running on unix://app\.sock\n")
        server.wait_for(r"WebSockets on unix://app\.sock \(1 route\)")
        server.wait_for("Press CTRL")
        assert get(path) == "version 1"

        with unix_connect(str(path), "ws://localhost/echo") as websocket:
            websocket.send("hello")
            assert websocket.recv() == "hello"
            app.write_text(app.read_text().replace("version 1", "version 2"))
            server.wait_for("Reloaded in")

        assert websocket.close_code == 1012
        assert get(path) == "version 2"
        server.wait_for(r'<local> - - \[.*\] "GET / HTTP/1.1" 200')
        server.signal(signal.SIGINT)
        assert server.wait() == 0

    assert not path.exists()


def test_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    """A path that nobody listens at any more is taken over."""
    path = tmp_path / "app.sock"

    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))

    with (
        open_listener(f"unix://{path}", 0) as listener,
        socket.socket(socket.AF_UNIX) as sock,
    ):
        sock.connect(str(path))
        listener.accept()[0].close()

    assert not path.exists()


def test_killed_server_leaves_a_socket_that_the_next_one_takes_over(
    tmp_path: Path,
) -> None:
    """A killed command can't remove its socket, which bothers nobody."""
    write_app(tmp_path)
    path = tmp_path / "app.sock"
    command = ("flask", "wsrun", "--host", f"unix://{path}")

    with Process(*command, cwd=tmp_path) as server:
        server.wait_for("Press CTRL")
        server.signal(signal.SIGKILL)
        server.wait()

    assert path.exists()

    with Process(*command, cwd=tmp_path) as server:
        server.wait_for("Press CTRL")
        assert until(lambda: get(path), "an answer") == "version 1"


def test_path_of_another_program_is_left_alone(tmp_path: Path) -> None:
    """A socket that somebody listens at is not taken away."""
    path = tmp_path / "app.sock"

    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()

        with (
            pytest.raises(click.ClickException, match="another program"),
            open_listener(f"unix://{path}", 0),
        ):
            pass

    assert path.exists()


def test_file_at_the_path_is_left_alone(tmp_path: Path) -> None:
    """A file that is no socket is never removed."""
    path = tmp_path / "notes.txt"
    path.write_text("precious")

    with (
        pytest.raises(click.ClickException, match="another file has that path"),
        open_listener(f"unix://{path}", 0),
    ):
        pass

    assert path.read_text() == "precious"


@pytest.mark.parametrize("path", ["missing/app.sock", "a" * 200])
def test_impossible_path_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The sentence names the path and the option."""
    monkeypatch.chdir(tmp_path)

    with (
        pytest.raises(click.ClickException, match=f"(?s){path}.*'--host'"),
        open_listener(f"unix://{path}", 0),
    ):
        pass

    assert os.listdir(tmp_path) == []
