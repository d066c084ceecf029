"""The signals that tell of WebSockets which open and close."""

from __future__ import annotations

import typing as t

import pytest
from flask import Flask, abort, current_app, request

from flask_sockets import (
    ConnectionClosed,
    HandshakeRejected,
    Sockets,
    SocketTestClient,
    WebSocket,
    websocket_closed,
    websocket_opened,
)

Told: t.TypeAlias = "list[dict[str, t.Any]]"


@pytest.fixture
def told(app: Flask) -> t.Iterator[Told]:
    """What was sent for the app: a receiver sees the app and the request."""
    told: Told = []

    def opened(sender: Flask, websocket: WebSocket) -> None:
        assert (current_app.name, request.path) == (sender.name, websocket.path)
        told.append({"opened": websocket.accepted})

    def closed(sender: Flask, **values: t.Any) -> None:
        assert (current_app.name, request.path) == (
            sender.name,
            values.pop("websocket").path,
        )
        assert values.pop("duration") > 0
        told.append(values)

    with (
        websocket_opened.connected_to(opened, app),
        websocket_closed.connected_to(closed, app),
    ):
        yield told


def closing(code: int, reason: str, by: str, **traffic: int) -> dict[str, t.Any]:
    names = ("messages_received", "bytes_received", "messages_sent", "bytes_sent")
    return {
        "code": code,
        "reason": reason,
        "closed_by": by,
        **dict.fromkeys(names, 0),
        **traffic,
    }


def test_a_websocket_tells_when_it_opens_and_how_it_closed(
    sockets: Sockets, client: SocketTestClient, told: Told
) -> None:
    @sockets.route("/echo")
    def echo(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)
            ws.send(message)

    with client.websocket("/echo") as ws:
        ws.send("hello")
        assert [ws.receive(), ws.receive()] == ["hello", "hello"]
        assert told == [{"opened": True}]
        ws.close(4000, "enough")
    traffic = {"messages_received": 1, "bytes_received": 5}
    traffic |= {"messages_sent": 2, "bytes_sent": 10}
    assert told[1:] == [closing(4000, "enough", "client", **traffic)]


def test_an_error_of_the_handler_is_told_by_its_close_code(
    app: Flask, sockets: Sockets, client: SocketTestClient, told: Told
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @sockets.route("/broken")
    def broken(ws: WebSocket) -> None:
        ws.accept()
        raise RuntimeError

    with client.websocket("/broken") as ws, pytest.raises(ConnectionClosed):
        ws.receive()
    assert told == [{"opened": True}, closing(1011, "", "server")]


def test_nothing_is_told_of_a_handshake_that_http_answers(
    sockets: Sockets, client: SocketTestClient, told: Told
) -> None:
    @sockets.route("/closed")
    def closed(ws: WebSocket) -> None:
        abort(403)

    with pytest.raises(HandshakeRejected), client.websocket("/closed"):
        pass
    assert told == []


def test_a_receiver_may_use_the_websocket_that_opens(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    @sockets.route("/greeted")
    def greeted(ws: WebSocket) -> None:
        ws.send("from the handler")

    def greet(sender: Flask, websocket: WebSocket) -> None:
        websocket.send("from the receiver")

    with websocket_opened.connected_to(greet, app), client.websocket("/greeted") as ws:
        assert list(ws) == ["from the receiver", "from the handler"]


def test_a_receiver_that_fails_keeps_nobody_from_closing(
    app: Flask,
    sockets: Sockets,
    client: SocketTestClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @sockets.route("/short")
    def short(ws: WebSocket) -> None:
        ws.send("bye")

    def fail(sender: Flask, **values: t.Any) -> None:
        raise RuntimeError("the receiver")

    with websocket_closed.connected_to(fail, app), client.websocket("/short") as ws:
        assert list(ws) == ["bye"]
    assert "'websocket_closed' failed, of the WebSocket '/short'" in caplog.text
