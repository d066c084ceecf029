from __future__ import annotations

import contextlib
import socket
import struct
import threading
import typing as t

import gevent
import pytest
from geventwebsocket.exceptions import WebSocketError as GeventWebSocketError
from geventwebsocket.websocket import WebSocket as GeventWebSocket
from websockets.exceptions import ConnectionClosed as ClientConnectionClosed
from websockets.sync.client import ClientConnection, connect

from flask_sockets import ConnectionClosed, WebSocket, WebSocketError
from flask_sockets.wire import reader, registry

from . import wire
from .certificates import make_certificate
from .wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Flavour,
    close_frame,
    frame,
    serve,
)


@pytest.fixture(params=wire.SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which server it is."""
    return t.cast(str, request.param)


pytestmark = pytest.mark.usefixtures("eager")


# Receiving


def test_the_end_is_told_once(flavour: Flavour) -> None:
    """'receive()' returns None, and raises if it is called again."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, b"a"), close_frame(4000, "bye"))
    assert ws.receive() == "a"
    assert ws.receive() is None
    for _ in range(2):
        with pytest.raises(ConnectionClosed) as caught:
            ws.receive()
        assert (caught.value.code, caught.value.reason) == (4000, "bye")
        assert caught.value.websocket is ws


def test_iteration_ends_with_the_connection(flavour: Flavour) -> None:
    """Also if it begins when all is over."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, b"a"), frame(BINARY, b"b"), close_frame())
    assert list(ws) == ["a", b"b"]
    assert list(ws) == []


def test_receive_gives_up_in_time(flavour: Flavour) -> None:
    """Nothing is lost by that, also not half a message."""
    ws, peer = flavour.connect()
    data = frame(TEXT, b"message")
    for part in (b"", data[:1], data[1:8]):
        peer.send(part)
        for timeout in (0, 0.02):
            with pytest.raises(TimeoutError):
                ws.receive(timeout=timeout)
    peer.send(data[8:])
    assert ws.receive(timeout=wire.PATIENCE) == "message"


def test_receive_gives_up_in_time_among_pings(patient: None, flavour: Flavour) -> None:
    """A client that sends something else without pause doesn't prolong it."""
    ws, _ = flavour.connect()
    transport: t.Any = ws.connection.transport
    transport.receive = lambda size: frame(PONG)
    with pytest.raises(TimeoutError):
        ws.receive(timeout=0.1)
    transport.receive = lambda size: b""


def test_a_second_receiver_is_an_error(flavour: Flavour) -> None:
    """Which of the two would get a message is chance. The first goes on."""
    ws, peer = flavour.connect()
    first = flavour.spawn(ws.receive)
    flavour.eventually(lambda: ws.connection.reader.is_busy)
    with pytest.raises(RuntimeError, match="receiving from this WebSocket already"):
        ws.receive()
    peer.send(frame(TEXT, b"for the first"), frame(TEXT, b"for the second"))
    assert first.result() == "for the first"
    assert ws.receive() == "for the second"


def test_of_many_receivers_one_receives(flavour: Flavour) -> None:
    """However close to each other they begin."""
    ws, peer = flavour.connect()
    tasks = [flavour.spawn(ws.receive) for _ in range(20)]
    flavour.eventually(lambda: sum(task.is_done for task in tasks) == 19)
    assert all(isinstance(task.error, RuntimeError) for task in tasks if task.is_done)
    peer.send(frame(TEXT, b"x"))
    assert [task.result() for task in tasks if task.error is None] == ["x"]


def test_a_killed_receiver_makes_room_for_another() -> None:
    """Apps read in a greenlet of their own, and kill it in the end."""
    flavour = wire.Greenlets()
    ws, peer = flavour.connect()
    first = flavour.spawn(ws.receive)
    flavour.sleep(0.01)
    first.handle.kill()
    peer.send(frame(TEXT, b"x"))
    assert ws.receive() == "x"
    flavour.clean_up()


def test_json_goes_both_ways(flavour: Flavour) -> None:
    """As text. What isn't JSON is an error, after which the connection goes on."""
    ws, peer = flavour.connect()
    ws.send_json({"é": [1, None]})
    assert peer.read() == (TEXT, rb'{"\u00e9": [1, null]}')
    with pytest.raises(TypeError):
        ws.send_json(object())
    peer.send(frame(TEXT, b"{"), frame(TEXT, b"null"), frame(BINARY, b'{"a": 1}'))
    with pytest.raises(ValueError, match="Expecting property name"):
        ws.receive_json()
    assert ws.receive_json() is None
    assert ws.receive_json() == {"a": 1}
    with pytest.raises(TimeoutError):
        ws.receive_json(timeout=0)
    peer.send(close_frame(4000))
    for _ in range(2):
        with pytest.raises(ConnectionClosed):
            ws.receive_json()


# Sending


@pytest.mark.parametrize(
    ("message", "binary", "expected"),
    [
        ("é", None, (TEXT, "é".encode())),
        ("é", False, (TEXT, "é".encode())),
        ("é", True, (BINARY, "é".encode())),
        (b"\xff", None, (BINARY, b"\xff")),
        (b"\xff", True, (BINARY, b"\xff")),
        (b"a", False, (TEXT, b"a")),
        (bytearray(b"ab"), None, (BINARY, b"ab")),
        (memoryview(b"abcd")[1:3], None, (BINARY, b"bc")),
        (memoryview(b"abcd")[::2], None, (BINARY, b"ac")),
        (memoryview(b"abcd").cast("H"), None, (BINARY, b"abcd")),
    ],
)
def test_the_type_of_a_message_decides_unless_told(
    flavour: Flavour, message: t.Any, binary: bool | None, expected: t.Any
) -> None:
    """'str' is sent as text, all that is bytes as binary."""
    ws, peer = flavour.connect()
    ws.send(message, binary)
    assert peer.read() == expected


def test_what_is_no_message_is_refused(flavour: Flavour) -> None:
    """With an error of its own, and nothing is sent."""
    ws, peer = flavour.connect()
    for wrong in (None, 123, ["a"], object()):
        with pytest.raises(TypeError, match=f"not '{type(wrong).__name__}'"):
            ws.send(t.cast(t.Any, wrong))
    with pytest.raises(ValueError, match="utf-8"):
        ws.send(b"\xff", binary=False)
    with pytest.raises(ValueError, match="utf-8"):
        ws.send("\ud800")
    ws.send("fine")
    assert peer.read() == (TEXT, b"fine")


def test_a_closed_connection_comes_before_a_wrong_type(flavour: Flavour) -> None:
    """A handler that passes on None from a closed connection ends quietly."""
    ws, peer = flavour.connect()
    peer.send(close_frame())
    with pytest.raises(ConnectionClosed):
        ws.send(t.cast(t.Any, ws.receive()))


def test_every_frame_can_be_sent_that_stands_alone(flavour: Flavour) -> None:
    """For code that was written for gevent-websocket."""
    ws, peer = flavour.connect()
    ws.send_frame("é", WebSocket.OPCODE_TEXT)
    ws.send_frame(b"\xff", WebSocket.OPCODE_BINARY)
    ws.send_frame("p", WebSocket.OPCODE_PING)
    ws.send_frame(bytearray(b"q"), WebSocket.OPCODE_PONG)
    ws.ping("r")
    ws.ping()
    assert [peer.read() for _ in range(6)] == [
        (TEXT, "é".encode()),
        (BINARY, b"\xff"),
        (PING, b"p"),
        (PONG, b"q"),
        (PING, b"r"),
        (PING, b""),
    ]
    with pytest.raises(ValueError, match="opcode 0"):
        ws.send_frame(b"", WebSocket.OPCODE_CONTINUATION)
    with pytest.raises(ValueError, match="opcode 3"):
        ws.send_frame(b"", 3)
    with pytest.raises(ValueError, match="125"):
        ws.ping(bytes(126))
    with pytest.raises(ValueError, match="utf-8"):
        ws.send_frame(b"\xff", WebSocket.OPCODE_TEXT)
    with pytest.raises(TypeError):
        ws.ping(t.cast(t.Any, 5))
    for payload in (b"\x03", b"\x03\xed", b"\x03\xe8\xff"):
        with pytest.raises(ValueError, match=r"close code|utf-8"):
            ws.send_frame(payload, WebSocket.OPCODE_CLOSE)
    assert not ws.closed
    ws.send_frame(b"\x0f\xa0bye", WebSocket.OPCODE_CLOSE)
    assert peer.read().close == (4000, "bye")
    with pytest.raises(ConnectionClosed):
        ws.send_frame(b"", WebSocket.OPCODE_PING)


def test_an_empty_close_frame_says_1000(flavour: Flavour) -> None:
    """As a close without arguments does."""
    ws, peer = flavour.connect()
    ws.send_frame(b"", WebSocket.OPCODE_CLOSE)
    assert peer.read().close == (1000, "")


# Closing


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), (1000, "")),
        ((4000,), (4000, "")),
        ((1001, "é"), (1001, "é")),
        ((1001, "é".encode()), (1001, "é")),
        ((3999, None), (3999, "")),
        ((1000, "x" * 123), (1000, "x" * 123)),
    ],
)
def test_a_close_says_code_and_reason(
    flavour: Flavour, arguments: t.Any, expected: tuple[int, str]
) -> None:
    """Both to the client and to whoever asks the object."""
    ws, peer = flavour.connect()
    assert (ws.closed, ws.close_code, ws.close_reason) == (False, None, None)
    ws.close(*arguments)
    assert peer.read().close == expected
    assert (ws.closed, ws.close_code, ws.close_reason) == (True, *expected)
    ws.close(4999, "too late")
    peer.send(close_frame(4001, "too late too"))
    assert ws.receive() is None
    assert (ws.close_code, ws.close_reason) == expected


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, -1])
def test_a_code_that_cannot_be_sent_is_refused(flavour: Flavour, code: int) -> None:
    """RFC 6455 section 7.4 reserves some for what is never on the wire."""
    ws, _ = flavour.connect()
    with pytest.raises(ValueError, match=f"^{code} is no close code"):
        ws.close(code)
    assert not ws.closed


def test_a_reason_that_is_too_long_is_refused(flavour: Flavour) -> None:
    """It counts in bytes of UTF-8."""
    ws, _ = flavour.connect()
    with pytest.raises(ValueError, match="123 bytes, not 124"):
        ws.close(1000, "é" * 62)
    with pytest.raises(ValueError, match="utf-8"):
        ws.close(1000, b"\xff")
    assert not ws.closed


def test_closed_waits_for_unread_messages(flavour: Flavour) -> None:
    """'while not ws.closed' around 'receive()' gets them all, whoever else looks."""
    ws, peer = flavour.connect()
    peer.send(*(frame(TEXT, b"%d" % number) for number in range(5)), close_frame())
    messages = [ws.receive()]
    flavour.eventually(lambda: ws.connection.closed is not None)
    while not ws.closed:
        assert not ws.closed
        assert flavour.spawn(lambda: ws.closed).result()
        messages.append(ws.receive())
    assert messages == ["0", "1", "2", "3", "4"]


def test_closed_does_not_wait_for_who_does_not_receive(flavour: Flavour) -> None:
    """Nor, for long, for who has received once."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, b"a"), frame(TEXT, b"b"), close_frame())
    flavour.eventually(lambda: ws.connection.closed is not None)
    assert ws.closed
    assert ws.receive() == "a"
    assert not ws.closed
    flavour.eventually(lambda: ws.closed)
    assert ws.receive() == "b"


def test_closed_by_this_side_is_closed_at_once(flavour: Flavour) -> None:
    """Whoever closed knows, and has no use for unread messages."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, b"a"))
    flavour.eventually(lambda: ws.connection.reader.messages)
    ws.close()
    assert ws.closed


# The handshake


def test_whatever_uses_the_connection_accepts_it(flavour: Flavour) -> None:
    """The handshake is done by the first use, once."""
    uses: list[t.Callable[[WebSocket], t.Any]] = [
        lambda ws: ws.closed,
        lambda ws: ws.send("x"),
        lambda ws: ws.ping(),
        lambda ws: ws.close(),
        lambda ws: ws.accept(),
        lambda ws: ws.receive_json(timeout=wire.PATIENCE),
    ]
    for use in uses:
        answers: list[bytes] = []
        ws, peer = flavour.connect(answer=lambda: b"HTTP/1.1 101\r\n\r\n")
        assert not ws.accepted
        assert "not accepted" in repr(ws)
        peer.send(frame(TEXT, b"1"))
        use(ws)
        assert ws.accepted
        assert not ws.closed or use is uses[3]
        answers.append(peer._read(16))
        assert answers == [b"HTTP/1.1 101\r\n\r\n"]


def test_looking_does_not_accept(flavour: Flavour) -> None:
    """What can be known beforehand can be asked beforehand."""
    server, _ = flavour.pair()
    ws = flavour.websocket(server)
    ws.environ |= {
        "HTTP_ORIGIN": "http://a",
        "HTTP_SEC_WEBSOCKET_PROTOCOL": "a, b",
        "HTTP_SEC_WEBSOCKET_VERSION": "13",
    }
    seen = (ws.origin, ws.protocol, ws.version, ws.path, ws.subprotocol)
    assert seen == ("http://a", "a, b", "13", "/test", None)
    assert (ws.close_code, ws.close_reason, ws.accepted) == (None, None, False)


def test_first_use_at_once_does_one_handshake(flavour: Flavour) -> None:
    """Greenlets or threads that are a moment late wait for it."""
    count = []

    def answer() -> bytes:
        count.append(1)
        flavour.sleep(0.02)
        return b""

    ws, peer = flavour.connect(answer=answer)
    tasks = [flavour.spawn(ws.send, "x") for _ in range(10)]
    assert [peer.read() for _ in tasks] == [(TEXT, b"x")] * 10
    for task in tasks:
        task.result()
    assert len(count) == 1


def test_accepting_twice_is_an_error(flavour: Flavour) -> None:
    """The arguments of the second call would have no effect."""
    ws, _ = flavour.connect()
    with pytest.raises(RuntimeError, match="accepted already"):
        ws.accept()


def test_a_failed_handshake_can_be_repeated(flavour: Flavour) -> None:
    """Such as one with a subprotocol that the client doesn't offer."""
    outcomes = [ValueError("no such subprotocol"), None]

    def answer() -> bytes:
        if error := outcomes.pop(0):
            raise error
        return b""

    ws, _ = flavour.connect(answer=answer)
    with pytest.raises(ValueError, match="subprotocol"):
        ws.accept("a")
    assert not ws.accepted
    ws.accept("b")
    assert ws.subprotocol == "b"


def test_a_refused_connection_is_closed(flavour: Flavour) -> None:
    """A greenlet may have it still when the request is answered with HTTP."""
    server, _ = flavour.pair()
    ws = flavour.websocket(server)
    assert ws.opening.refuse()
    assert ws.closed
    ws.close()
    for use in (ws.receive, ws.accept, ws.ping):
        with pytest.raises(ConnectionClosed, match="HTTP"):
            use()
    assert not ws.accepted
    accepted, _ = flavour.connect()
    assert not accepted.opening.refuse()


# The type


def test_it_is_gevent_websockets_websocket(flavour: Flavour) -> None:
    """Checks and annotations of existing apps hold."""
    ws, _ = flavour.connect()
    assert isinstance(ws, GeventWebSocket)
    assert repr(ws) == "<WebSocket '/test' open>"
    ws.close(4000)
    assert repr(ws) == "<WebSocket '/test' closed with 4000>"


def test_its_errors_are_what_apps_catch() -> None:
    """gevent-websocket's own, and OSError."""
    error = ConnectionClosed(4000, "bye")
    assert isinstance(error, WebSocketError)
    assert WebSocketError is GeventWebSocketError
    assert isinstance(error, OSError)
    assert str(error).endswith("closed: 4000 (private use) bye")


# Real servers


def close_of(client: ClientConnection) -> tuple[int, str]:
    """The code and reason that the client sees."""
    with pytest.raises(ClientConnectionClosed) as caught:
        while True:
            client.recv(timeout=wire.PATIENCE)
    close = caught.value.rcvd
    return (1006, "") if close is None else (int(close.code), close.reason)


def reset(client: ClientConnection) -> None:
    """Vanish without a word, not even a FIN."""
    client.socket.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    client.socket.shutdown(socket.SHUT_RD)  # Wakes its reader.
    client.close_socket()


def echo(ws: WebSocket) -> None:
    for message in ws:
        ws.send(message)


def test_a_server_echoes(kind: str) -> None:
    """Text, binary, large and small."""
    with serve(kind, echo) as server, connect(server.url) as client:
        for message in ("é", b"\xff", "", b"", "x" * 70_000, bytes(2**20)):
            client.send(message)
            assert client.recv(timeout=wire.PATIENCE) == message


def test_a_handler_sees_how_the_client_closes(kind: str) -> None:
    """Its code and reason."""
    seen: list[t.Any] = []

    def handler(ws: WebSocket) -> None:
        seen.extend([ws.receive(), ws.closed, ws.close_code, ws.close_reason])

    with serve(kind, handler) as server:
        with connect(server.url) as client:
            client.close(4321, "bye")
            assert client.close_code == 4321
        with connect(server.url) as client:
            client.close()
    assert seen == [None, True, 4321, "bye", None, True, 1000, ""]
    assert server.errors == []


def test_a_client_sees_how_the_handler_closes(kind: str) -> None:
    """Or that it returned."""

    def handler(ws: WebSocket) -> None:
        message = t.cast(str, ws.receive())
        if message:
            ws.close(int(message), f"reason {message}")

    with serve(kind, handler) as server:
        for code in (1000, 1011, 3000, 4999):
            with connect(server.url) as client:
                client.send(str(code))
                assert close_of(client) == (code, f"reason {code}")
        with connect(server.url) as client:
            client.send("")
            assert close_of(client) == (1000, "")


def test_a_handler_sees_that_the_client_vanished(kind: str) -> None:
    """With 1006, and what it sends afterwards raises."""
    seen: list[t.Any] = []

    def handler(ws: WebSocket) -> None:
        seen.extend([ws.receive(), ws.close_code])
        ws.send("late")

    with serve(kind, handler) as server, connect(server.url) as client:
        reset(client)
    assert seen == [None, 1006]
    assert server.errors == []


def test_a_handler_may_loop_while_not_closed(kind: str) -> None:
    """An outbox never receives. Its client's close ends it."""
    import gevent

    seen: list[t.Any] = []

    def handler(ws: WebSocket) -> None:
        while not ws.closed:
            if kind == "pywsgi":
                gevent.sleep(0.01)
            else:
                threading.Event().wait(0.01)
        seen.append(ws.close_code)

    with serve(kind, handler) as server, connect(server.url) as client:
        client.send("nobody reads that")
        client.close(4000)
    assert seen == [4000]


def test_a_silent_client_is_given_up_as_configured(kind: str) -> None:
    """The app's config says how long it may be silent."""
    seen: list[t.Any] = []

    def handler(ws: WebSocket) -> None:
        seen.extend([ws.receive(), ws.close_code])

    with serve(
        kind, handler, SOCKETS_PING_INTERVAL=0.05, SOCKETS_PING_TIMEOUT=0.05
    ) as server:
        from websockets.client import ClientProtocol
        from websockets.uri import parse_uri

        peer = _raw_client(server.url, ClientProtocol(parse_uri(server.url)))
        answers = peer.read_to_end()
        peer.socket.close()
    assert [answer.opcode for answer in answers] == [PING, CLOSE]
    assert answers[1].close[0] == 1011
    assert seen == [None, 1006]


def _raw_client(url: str, protocol: t.Any) -> wire.Peer:
    """A client that does the handshake, and then nothing by itself."""
    uri = protocol.uri
    peer = wire.Peer(socket.create_connection((uri.host, uri.port)))
    protocol.send_request(protocol.connect())
    peer.send(*protocol.data_to_send())
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += peer._read(1)
    assert answer.startswith(b"HTTP/1.1 101 ")
    return peer


def test_only_websocket_frames_come_after_the_handshake(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the server's HTTP gets to the wire, nor is anything after the Close
    taken for HTTP. What came before the Close is answered first."""
    monkeypatch.setattr(reader, "PATIENCE", 0.4)
    with serve(kind, echo) as server:
        from websockets.client import ClientProtocol
        from websockets.uri import parse_uri

        peer = _raw_client(server.url, ClientProtocol(parse_uri(server.url)))
        peer.send(
            frame(TEXT, b"a"),
            frame(TEXT, b"b", fin=False),
            frame(CONTINUATION, b"c"),
            close_frame(4000),
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        answers = peer.read_to_end()
        peer.socket.close()
    assert answers == [(TEXT, b"a"), (TEXT, b"bc"), (CLOSE, b"\x0f\xa0")]
    assert server.errors == []


def test_the_largest_message_is_configured(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A message over the limit ends with 1009, and the log names the setting."""
    with (
        serve(kind, echo, SOCKETS_MAX_MESSAGE_SIZE=1000) as server,
        connect(server.url) as client,
    ):
        client.send(bytes(1000))
        assert client.recv(timeout=wire.PATIENCE) == bytes(1000)
        client.send(bytes(1001))
        assert close_of(client)[0] == 1009
    assert "more than 1000 bytes" in caplog.text
    assert "'SOCKETS_MAX_MESSAGE_SIZE'" in caplog.text


def test_a_server_tells_its_clients_that_it_stops(kind: str) -> None:
    """They see the code and the reason, and the handlers end."""
    with serve(kind, echo) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server.url)) for _ in range(3)]
        for client in clients:
            client.send("x")
            assert client.recv(timeout=wire.PATIENCE) == "x"
        registry.close_all(1012, "reloading")
        for client in clients:
            assert close_of(client) == (1012, "reloading")
    assert server.errors == []


def test_many_send_to_one_client(kind: str) -> None:
    """From greenlets or threads that the handler starts."""
    flavour = wire.Threads() if kind == "werkzeug" else wire.Greenlets()

    def handler(ws: WebSocket) -> None:
        def send(letter: str) -> None:
            for _ in range(5):
                ws.send(letter * 100_000)

        for task in [flavour.spawn(send, letter) for letter in "abcdefgh"]:
            task.result()

    with serve(kind, handler) as server, connect(server.url) as client:
        messages = list(client)
    assert sorted(messages) == sorted(letter * 100_000 for letter in "abcdefgh" * 5)
    assert server.errors == []


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The files of a self-signed certificate and its key."""
    files = make_certificate(tmp_path_factory.mktemp("tls"))
    return str(files.certificate), str(files.key)


def test_large_messages_pass_both_ways_at_once_over_tls(
    kind: str, certificate: tuple[str, str]
) -> None:
    """Reading and writing share the state of the encryption."""
    flavour = wire.Threads() if kind == "werkzeug" else wire.Greenlets()
    message = bytes(range(256)) * 4096

    def handler(ws: WebSocket) -> None:
        def send() -> None:
            for _ in range(8):
                ws.send(message)

        sender = flavour.spawn(send)
        for _ in range(8):
            assert ws.receive() == message
        sender.result()

    with (
        serve(kind, handler, certificate) as server,
        connect(server.url, ssl=wire.client_tls(certificate[0])) as client,
    ):

        def send() -> None:
            for _ in range(8):
                client.send(message)

        thread = threading.Thread(target=send)
        thread.start()
        for _ in range(8):
            assert client.recv(timeout=wire.PATIENCE) == message
        thread.join()
        assert close_of(client) == (1000, "")
    assert server.errors == []


def test_the_end_over_tls(kind: str, certificate: tuple[str, str]) -> None:
    """Either side may close, and the client may vanish."""
    seen: list[t.Any] = []

    def handler(ws: WebSocket) -> None:
        if ws.receive() == "close":
            ws.close(4000, "bye")
        seen.append(ws.close_code)

    tls = wire.client_tls(certificate[0])
    with serve(kind, handler, certificate) as server:
        with connect(server.url, ssl=tls) as client:
            client.send("close")
            assert close_of(client) == (4000, "bye")
        with connect(server.url, ssl=tls) as client:
            client.close(4001)
            assert client.close_code == 4001
        with connect(server.url, ssl=tls) as client:
            reset(client)
    assert sorted(seen) == [1006, 4000, 4001]
    assert server.errors == []


def test_pings_are_answered_over_tls(kind: str, certificate: tuple[str, str]) -> None:
    """By the keeper, from a thread of its own where there are threads."""
    release = threading.Event()

    def handler(ws: WebSocket) -> None:
        assert not ws.closed
        if kind == "werkzeug":
            release.wait(wire.PATIENCE)
        else:
            import gevent

            while not release.is_set():
                gevent.sleep(0.01)

    with (
        serve(kind, handler, certificate) as server,
        connect(server.url, ssl=wire.client_tls(certificate[0])) as client,
    ):
        for _ in range(3):
            assert client.ping().wait(wire.PATIENCE)
        release.set()
    assert server.errors == []


def test_a_lost_tls_connection_is_lost_for_all(
    kind: str, certificate: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """A blocked send and a receive end, without errors of another kind."""
    flavour = wire.Threads() if kind == "werkzeug" else wire.Greenlets()
    seen: list[t.Any] = []

    def handler(ws: WebSocket) -> None:
        def send() -> None:
            while True:
                ws.send(bytes(2**20))

        assert ws.receive() == "begin"
        sender = flavour.spawn(send)
        receiver = flavour.spawn(ws.receive)
        flavour.eventually(lambda: ws.connection.writer.is_blocked)
        ws.connection.lose()
        # Others may be in the middle of using the encryption.
        tls_socket: t.Any = ws.connection.transport.socket
        assert tls_socket.cipher() is not None
        seen.append(receiver.result())
        with pytest.raises(ConnectionClosed):
            sender.result()

    with serve(kind, handler, certificate) as server:
        tls = wire.client_tls(certificate[0])
        with connect(server.url, ssl=tls, max_queue=(1, 0)) as client:
            client.send("begin")
            assert close_of(client) == (1006, "")
    assert seen == [None]
    assert server.errors == []
    assert "Error" not in caplog.text


def test_a_message_over_tls_cannot_be_taken_back(
    kind: str, certificate: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The encryption may have it already: what followed would be garbled."""
    seen: list[t.Any] = []

    def handler(ws: WebSocket) -> None:
        with pytest.raises(TimeoutError):
            while True:
                ws.send(bytes(1000), timeout=0.05)
        seen.extend([ws.closed, ws.close_code])

    with serve(kind, handler, certificate) as server:
        tls = wire.client_tls(certificate[0])
        with connect(server.url, ssl=tls, max_queue=(1, 0)) as client:
            wire.Threads().eventually(lambda: seen)
            assert close_of(client) == (1006, "")
    assert seen == [True, 1006]
    assert "Error" not in caplog.text


# Waiting for the end


def test_a_handler_that_only_sends_waits_for_the_end(flavour: Flavour) -> None:
    """Pings are answered meanwhile, and what was sent before can be received."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, b"a"), frame(PING, b"x"))
    waiter = flavour.spawn(ws.wait_closed)
    assert peer.read() == (PONG, b"x")
    ws.send("sent meanwhile")
    assert peer.read() == (TEXT, b"sent meanwhile")
    assert not waiter.is_done
    peer.send(close_frame(4000))
    assert waiter.result() is True
    assert ws.close_code == 4000
    assert ws.receive() == "a"


def test_waiting_for_the_end_gives_up_in_time(flavour: Flavour) -> None:
    """And leaves nothing behind."""
    ws, peer = flavour.connect()
    for timeout in (0, 0.02):
        assert ws.wait_closed(timeout) is False
    peer.send(frame(TEXT, b"a"))
    assert ws.receive() == "a"


def test_a_flood_does_not_hide_the_end(flavour: Flavour) -> None:
    """What there is no room for is thrown away while nobody wants it."""
    ws, peer = flavour.connect(max_read_ahead=1000)
    waiter = flavour.spawn(ws.wait_closed)
    peer.send(frame(TEXT, b"x" * 100) * 10_000, close_frame(4000))
    assert waiter.result() is True
    assert ws.close_code == 4000


def test_a_thread_that_is_not_the_hubs_may_send() -> None:
    """Also if the client isn't reading, and what goes wrong there is raised there."""
    flavour = wire.Greenlets()
    ws, peer = flavour.connect()
    pool = gevent.get_hub().threadpool
    large = pool.spawn(ws.send, bytes(2**22))
    assert len(peer.read().payload) == 2**22
    large.get()
    peer.send(close_frame(4000))
    assert ws.receive() is None
    with pytest.raises(ConnectionClosed):
        pool.apply(ws.send, ("late",))
    flavour.clean_up()
