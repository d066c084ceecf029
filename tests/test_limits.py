"""Who may stay, how many, and how much they may send."""

from __future__ import annotations

import datetime
import time
import typing as t

import pytest
from flask import Flask
from websockets.exceptions import ConnectionClosed as ClientClosed
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response
from websockets.sync.client import ClientConnection, connect
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_sockets import (
    ConnectionClosed,
    HandshakeRejected,
    Sockets,
    SocketTestClient,
    WebSocket,
)

from .frames import TEXT, frame
from .process import PATIENCE, until
from .wire import SERVERS, serve


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """With threads, and with greenlets."""
    return str(request.param)


def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


def refusal(url: str, **options: t.Any) -> Response:
    with pytest.raises(InvalidStatus) as caught:
        connect(url, **options)
    return caught.value.response


def ending(client: ClientConnection) -> tuple[int, str]:
    """Read to the end, and return the code and the reason."""
    with pytest.raises(ClientClosed) as caught:
        while True:
            client.recv(PATIENCE)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def can_connect(url: str) -> bool:
    try:
        with connect(url):
            return True
    except InvalidStatus:
        return False


# Connections


def test_connections_over_the_limit_get_a_503_until_one_has_ended(kind: str) -> None:
    with serve(kind, echo, SOCKETS_MAX_CONNECTIONS=2) as server:
        with connect(server.url), connect(server.url):
            response = refusal(server.url)
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
        until(lambda: can_connect(server.url), "room for a connection")


def test_connections_of_an_address_over_the_limit_get_a_429(kind: str) -> None:
    with serve(kind, echo, SOCKETS_MAX_CONNECTIONS_PER_ADDRESS=1) as server:
        with connect(server.url):
            response = refusal(server.url)
            assert response.status_code == 429
            assert int(response.headers["Retry-After"]) > 0
        until(lambda: can_connect(server.url), "room for a connection")


def test_a_handshake_that_http_answers_leaves_its_place(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    app.config["SOCKETS_MAX_CONNECTIONS"] = 1

    @sockets.route("/closed")
    def closed(ws: WebSocket) -> tuple[str, int]:
        return "No.", 403

    for _ in range(3):
        with pytest.raises(HandshakeRejected) as caught, client.websocket("/closed"):
            pass
        assert caught.value.response.status_code == 403


def status_of(client: SocketTestClient, path: str, **options: t.Any) -> int:
    """Connect while others are, and say how that was answered."""
    try:
        with client.websocket(path, **options) as ws:
            return ws.response.status_code
    except HandshakeRejected as error:
        return error.response.status_code


def test_a_route_has_limits_of_its_own_besides_those_of_the_app(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    app.config["SOCKETS_MAX_CONNECTIONS"] = 2
    sockets.add_url_rule("/rare", "rare", echo, max_connections=1)
    sockets.add_url_rule("/any", "any", echo)
    with client.websocket("/rare"):
        assert status_of(client, "/rare") == 503
        assert status_of(client, "/any") == 101
        with client.websocket("/any"):
            assert status_of(client, "/any") == 503


@pytest.mark.parametrize(
    ("address", "same", "other"),
    [
        ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:2::1"),
    ],
)
def test_addresses_are_told_apart_as_far_as_they_belong_to_others(
    sockets: Sockets, client: SocketTestClient, address: str, same: str, other: str
) -> None:
    sockets.add_url_rule("/a", "a", echo, max_connections_per_address=1)
    with client.websocket("/a", environ_overrides={"REMOTE_ADDR": address}):
        for another, status in ((same, 429), (other, 101)):
            overrides = {"REMOTE_ADDR": another}
            assert status_of(client, "/a", environ_overrides=overrides) == status


def test_the_address_is_the_one_that_a_proxy_forwards(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    sockets.add_url_rule("/a", "a", echo, max_connections_per_address=1)
    with client.websocket("/a", headers={"X-Forwarded-For": "192.0.2.1"}):
        for address, status in (("192.0.2.1", 429), ("192.0.2.2", 101)):
            headers = {"X-Forwarded-For": address}
            assert status_of(client, "/a", headers=headers) == status


def test_the_log_says_that_clients_are_turned_away_but_not_each_time(
    app: Flask,
    sockets: Sockets,
    client: SocketTestClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    app.config["SOCKETS_MAX_CONNECTIONS_PER_ADDRESS"] = 1
    sockets.add_url_rule("/a", "a", echo)
    with client.websocket("/a"):
        for _ in range(3):
            assert status_of(client, "/a") == 429
    (record,) = [r for r in caplog.records if r.name == app.logger.name]
    text = record.getMessage()
    assert "'/a' from 127.0.0.1: there are 1 already" in text
    assert "'SOCKETS_MAX_CONNECTIONS_PER_ADDRESS' allows" in text
    assert "'ProxyFix'" in text


# Messages


def test_a_client_that_sends_too_much_is_closed_with_1008(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And the handler gets no more than is allowed."""
    received = []

    def handler(ws: WebSocket) -> None:
        for message in ws:
            received.append(message)

    rate = "1/hour, burst 5"
    with serve(kind, handler, SOCKETS_MAX_MESSAGE_RATE=rate) as server:
        with connect(server.url) as client:
            # All at once, and more than is looked at in one go.
            messages = [frame(TEXT, str(n).encode()) for n in range(5000)]
            client.socket.sendall(b"".join(messages))
            assert ending(client) == (1008, "too many messages")
        until(lambda: "max_message_rate" in caplog.text, "a line in the log")
        assert received == ["0", "1", "2", "3", "4"]
        assert server.errors == []


def test_a_client_within_the_rate_is_served(kind: str) -> None:
    with (
        serve(kind, echo, SOCKETS_MAX_MESSAGE_RATE="1/hour, burst 1000") as server,
        connect(server.url) as client,
    ):
        messages = [str(number) for number in range(1000)]
        for message in messages:
            client.send(message)
        assert [client.recv(PATIENCE) for _ in messages] == messages
        client.send("one more")
        assert ending(client) == (1008, "too many messages")


def test_what_is_read_ahead_counts_when_it_comes(kind: str) -> None:
    """A handler that does something else is no reason to let a client send more."""

    def busy(ws: WebSocket) -> None:
        ws.wait_closed()

    with (
        serve(kind, busy, SOCKETS_MAX_MESSAGE_RATE="1/hour, burst 5") as server,
        connect(server.url) as client,
    ):
        for number in range(6):
            client.send(str(number))
        assert ending(client) == (1008, "too many messages")


def test_a_route_may_set_no_limit_where_the_app_has_one(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    app.config["SOCKETS_MAX_MESSAGE_RATE"] = "1/hour"
    sockets.add_url_rule("/app", "app", echo)
    sockets.add_url_rule("/own", "own", echo, max_message_rate="3/hour")
    sockets.add_url_rule("/free", "free", echo, max_message_rate=None)
    for path, allowed in (("/app", 1), ("/own", 3), ("/free", None)):
        with client.websocket(path) as ws:
            for _ in range(allowed or 50):
                ws.send("x")
                assert ws.receive() == "x"
            if allowed is not None:
                ws.send("x")
                with pytest.raises(ConnectionClosed) as caught:
                    ws.receive()
                assert caught.value.code == 1008


# Time


def test_a_connection_without_messages_is_closed(kind: str) -> None:
    ends = []

    def handler(ws: WebSocket) -> None:
        ends.append((ws.receive(), ws.close_code, ws.close_reason))

    with serve(kind, handler, SOCKETS_IDLE_TIMEOUT=0.1) as server:
        with connect(server.url) as client:
            assert ending(client) == (1000, "idle")
        until(lambda: ends, "the end of the handler")
        assert ends == [(None, 1000, "idle")]


def longest_pause(step: t.Callable[[], None]) -> float:
    """Do something again and again for two seconds. Of a machine that does much else
    this finds out for how many seconds it didn't."""
    longest, started = 0.0, time.monotonic()
    before = started
    is_closed = False
    while before < started + 2 and not is_closed:
        try:
            step()
        except ConnectionClosed:
            is_closed = True
        now = time.monotonic()
        longest, before = max(longest, now - before), now
    return longest


def test_a_connection_whose_client_sends_is_not_idle(
    sockets: Sockets, client: SocketTestClient
) -> None:
    @sockets.route("/received", idle_timeout=1)
    def received(ws: WebSocket) -> None:
        for _ in ws:
            pass

    with client.websocket("/received") as ws:

        def send() -> None:
            ws.send("still here")
            time.sleep(0.05)

        pause = longest_pause(send)
        assert ws.close_code is None or pause > 0.5


def test_a_connection_whose_handler_sends_is_not_idle(
    sockets: Sockets, client: SocketTestClient
) -> None:
    @sockets.route("/pushed", idle_timeout=1)
    def pushed(ws: WebSocket) -> None:
        while not ws.wait_closed(0.05):
            ws.send("still here")

    with client.websocket("/pushed") as ws:
        pause = longest_pause(lambda: t.cast(None, ws.receive(PATIENCE)))
        assert ws.close_code is None or pause > 0.5


def test_a_connection_is_closed_at_a_time(kind: str) -> None:
    ends = []

    def handler(ws: WebSocket) -> None:
        ws.close_at(time.time() + 0.1)
        ws.send("hello")
        ends.append((ws.receive(), ws.close_code, ws.close_reason))

    with serve(kind, handler) as server:
        with connect(server.url) as client:
            assert client.recv(PATIENCE) == "hello"
            assert ending(client) == (1008, "expired")
        until(lambda: ends, "the end of the handler")
        assert ends == [(None, 1008, "expired")]


def test_the_last_time_counts_and_none_is_never(
    sockets: Sockets, client: SocketTestClient
) -> None:
    @sockets.route("/renewed")
    def renewed(ws: WebSocket) -> None:
        ws.close_at(time.time() + 0.05)
        ws.close_at(time.time() + 3600)
        ws.wait_closed(0.3)
        ws.send(str(ws.closed))
        ws.close_at(time.time() + 0.05)
        ws.close_at(None)
        ws.wait_closed(0.3)
        ws.send(str(ws.closed))
        soon = datetime.datetime.now(datetime.UTC)
        ws.close_at(soon, 4001, "at last")
        ws.wait_closed()

    with client.websocket("/renewed") as ws:
        assert ws.receive() == ws.receive() == "False"
        with pytest.raises(ConnectionClosed) as caught:
            ws.receive()
        assert (caught.value.code, caught.value.reason) == (4001, "at last")


def test_a_time_doesnt_accept_the_connection(
    sockets: Sockets, client: SocketTestClient
) -> None:
    @sockets.route("/refused")
    def refused(ws: WebSocket) -> tuple[str, int]:
        ws.close_at(time.time() + 3600)
        return "No.", 403

    assert status_of(client, "/refused") == 403


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((datetime.datetime(2030, 1, 1),), ValueError, "has no time zone"),
        ((float("nan"),), ValueError, "never comes"),
        (("soon",), TypeError, "not 'soon'"),
        ((0, 1006), ValueError, "1006 is no close code"),
        ((0, 1008, "x" * 124), ValueError, "at most 123 bytes"),
    ],
)
def test_a_time_that_cant_be_is_refused(
    sockets: Sockets,
    client: SocketTestClient,
    arguments: tuple[t.Any, ...],
    error: type[Exception],
    message: str,
) -> None:
    @sockets.route("/mistaken")
    def mistaken(ws: WebSocket) -> None:
        ws.accept()
        with pytest.raises(error, match=message):
            ws.close_at(*arguments)
        ws.send("still open")

    with client.websocket("/mistaken") as ws:
        assert ws.receive() == "still open"


# Mistakes

MISTAKES = [
    ("max_connections", 0),
    ("max_connections", True),
    ("max_connections", "10"),
    ("max_connections_per_address", -1),
    ("max_message_rate", 20),
    ("max_message_rate", "20"),
    ("max_message_rate", "0/second"),
    ("max_message_rate", "20/week"),
    ("idle_timeout", 0),
    ("idle_timeout", float("inf")),
    ("idle_timeout", "60"),
]


@pytest.mark.parametrize(("name", "value"), MISTAKES)
def test_a_limit_that_cant_be_is_refused_where_it_is_set(
    name: str, value: t.Any
) -> None:
    app = Flask(__name__)
    app.config[f"SOCKETS_{name.upper()}"] = value
    with pytest.raises(
        ValueError, match=f"config 'SOCKETS_{name.upper()}' is"
    ) as config:
        Sockets(app)
    assert repr(value) in str(config.value)
    with pytest.raises(ValueError, match=f"option '{name}' of the WebSocket '/x'"):
        Sockets().route("/x", **{name: value})(echo)


def test_a_mistake_made_later_is_an_error_of_the_handshake(
    app: Flask, sockets: Sockets, client: SocketTestClient
) -> None:
    sockets.add_url_rule("/a", "a", echo)
    app.config["SOCKETS_IDLE_TIMEOUT"] = "60"
    with pytest.raises(ValueError, match="SOCKETS_IDLE_TIMEOUT"):
        status_of(client, "/a")
