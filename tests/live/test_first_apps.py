"""The two examples of the README of 0.2.1 run unchanged, however they are started."""

from __future__ import annotations

import typing as t

import pytest

from .clients import Kind, connect
from .processes import Server
from .ways import FLASK_RUN, TWO_WORKERS, WAYS, WORKER, WSRUN, Way

AS_MAIN = "python app.py"
HOW = {AS_MAIN: None, **{w.name: w for w in (FLASK_RUN, WSRUN, WORKER, TWO_WORKERS)}}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            (module, how),
            id=f"{module}-{how}",
            marks=pytest.mark.xdist_group(f"{__name__}-{module}-{how}"),
        )
        for module in ("simple", "blueprint")
        for how in HOW
    ],
)
def server(request: pytest.FixtureRequest) -> t.Iterator[Server]:
    module, how = request.param
    way: Way | None = HOW[how]
    new = (
        Server([f"{module}.py"], ready=None)
        if way is None
        else way.serve(f"{module}:app")
    )
    with new:
        # The handler sends the None it receives at the end. That is no message, and
        # by then nobody listens.
        yield new
        new.assert_log_is_clean()


def test_hello(server: Server) -> None:
    """The page is served."""
    assert server.get("/").body == "Hello World!"


def test_echo(server: Server, kind: Kind) -> None:
    """Messages come back, text as text and bytes as bytes."""
    for _ in range(3):
        with connect(kind, server.url("/echo")) as client:
            for message in ("hello", "ä€😀", b"\0\xff", b"x" * 1_000_000):
                client.send(message)
                assert client.receive() == message


def test_page_isnt_a_websocket_and_back(server: Server) -> None:
    """Plain HTTP to the WebSocket is told to upgrade."""
    assert server.get("/echo").status == 426


def test_every_way_is_here() -> None:
    """Nothing in this module depends on one server."""
    assert {way for way in HOW.values() if way} <= {*WAYS, TWO_WORKERS}
