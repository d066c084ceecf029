"""permessage-deflate (RFC 7692): what is agreed on, and what is said with it."""

from __future__ import annotations

import http.client
import socket
import threading
import tracemalloc
import typing as t
import zlib

import pytest
from flask import Flask, Response
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from flask_sockets import Sockets, WebSocket
from flask_sockets.wire import reader
from flask_sockets.wire.deflate import Deflate, choose_compression

from . import wire
from .conftest import Served
from .wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Peer, frame

Serve: t.TypeAlias = t.Callable[[Flask], Served]
#: Connects to '/echo' with an offer.
Connect: t.TypeAlias = "t.Callable[..., RawClient]"

MIB = 2**20
RSV1 = 4

EXTENSIONS = "Sec-WebSocket-Extensions"

HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.config["SOCKETS_COMPRESSION"] = True

    @Sockets(app).route("/echo")
    def echo(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)

    return app


def handshake(served: Served, offer: str | None) -> tuple[int, str | None]:
    """Send a handshake with an offer, and return the status and the answer to it."""
    connection = http.client.HTTPConnection(served.host, timeout=10)
    headers = HANDSHAKE if offer is None else {**HANDSHAKE, EXTENSIONS: offer}
    connection.request("GET", "/echo", headers=headers)
    answer = connection.getresponse()
    connection.close()
    return answer.status, answer.headers[EXTENSIONS]


class RawClient(Peer):
    """A client that makes its frames by hand, after a handshake."""

    def __init__(self, served: Served, offer: str = "permessage-deflate") -> None:
        host, port = served.host.split(":")
        sock = socket.create_connection((host, int(port)), timeout=10)
        super().__init__(sock)
        lines = [f"{name}: {value}" for name, value in HANDSHAKE.items()]
        lines += ["Host: localhost", f"{EXTENSIONS}: {offer}", "", ""]
        sock.sendall("\r\n".join(["GET /echo HTTP/1.1", *lines]).encode())
        self.answer = b""
        while not self.answer.endswith(b"\r\n\r\n"):
            self.answer += sock.recv(1)
        self.sock = sock
        self.inflater = zlib.decompressobj(wbits=-15)

    def read_message(self) -> tuple[int, bytes]:
        """Read a compressed message, and inflate it."""
        answer = self.read()
        assert answer.opcode & 0x40, answer
        return answer.opcode & 0x0F, self.inflate(answer.payload)

    def inflate(self, payload: bytes) -> bytes:
        return self.inflater.decompress(payload + b"\0\0\xff\xff")

    def code(self) -> int:
        """Read to the end, and return the close code."""
        last = self.read_to_end()[-1]
        assert last.opcode == CLOSE
        return int.from_bytes(last.payload[:2], "big")


@pytest.fixture
def raw(serve: Serve, app: Flask) -> t.Iterator[Connect]:
    clients: list[RawClient] = []

    def connect(offer: str = "permessage-deflate") -> RawClient:
        clients.append(RawClient(serve(app), offer))
        return clients[-1]

    yield connect
    for client in clients:
        client.sock.close()


def deflate(payload: bytes, deflater: t.Any = None) -> bytes:
    """What a client sends of a message."""
    deflater = deflater or zlib.compressobj(wbits=-15)
    data: bytes = deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)
    return data[:-4]


def zeros(size: int) -> bytes:
    """What a client sends of a message of zeros. It is never whole in memory."""
    deflater = zlib.compressobj(9, wbits=-15)
    block = deflater.compress(bytes(MIB)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return (block * (size // MIB))[:-4]


# What is agreed on


def test_compression_is_off_by_default(serve: Serve, app: Flask) -> None:
    """It takes memory and time, so an app has to ask for it."""
    plain = Flask(__name__)
    Sockets(plain).add_url_rule("/echo", "echo", lambda ws: ws.accept())
    assert plain.config["SOCKETS_COMPRESSION"] is False
    assert handshake(serve(plain), "permessage-deflate") == (101, None)


def test_nothing_is_agreed_on_unless_the_client_offers_it(
    serve: Serve, app: Flask
) -> None:
    """A client that knows no compression is served without it."""
    assert handshake(serve(app), None) == (101, None)


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("", {"server_max_window_bits=12"}),
        ("client_max_window_bits", {"server=12", "client=12"}),
        ("client_max_window_bits=15", {"server=12", "client=12"}),
        ("client_max_window_bits=10", {"server=12", "client=10"}),
        ("client_max_window_bits=8", {"server=12", "client=8"}),
        ('client_max_window_bits="10"', {"server=12", "client=10"}),
        ("server_max_window_bits=15", {"server=12"}),
        ("server_max_window_bits=9", {"server=9"}),
        ("server_no_context_takeover", {"server=12", "server_no_context_takeover"}),
        ("client_no_context_takeover", {"server=12", "client_no_context_takeover"}),
    ],
)
def test_each_parameter_is_honoured(
    serve: Serve, app: Flask, offer: str, answer: set[str]
) -> None:
    """The answer asks for no larger window than the offer allows (section 7.1)."""
    status, header = handshake(serve(app), f"permessage-deflate; {offer}".rstrip("; "))
    names = {"server": "server_max_window_bits", "client": "client_max_window_bits"}
    expected = set()
    for item in answer:
        name, equals, value = item.partition("=")
        expected.add(names.get(name, name) + equals + value)
    assert header is not None
    name, *parameters = [part.strip() for part in header.split(";")]
    assert (status, name, set(parameters)) == (101, "permessage-deflate", expected)


@pytest.mark.parametrize(
    "offer",
    [
        "x-webkit-deflate-frame",
        "permessage-deflate; server_max_window_bits=8",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=09",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate; unheard_of",
    ],
)
def test_an_offer_that_cant_be_met_is_declined(
    serve: Serve, app: Flask, offer: str | None
) -> None:
    """The connection goes on without compression (section 7.1). zlib has no window
    of 8 bits to compress with."""
    assert handshake(serve(app), offer) == (101, None)


def test_the_first_offer_that_can_be_met_is_taken(serve: Serve, app: Flask) -> None:
    """A client lists them in its order of preference (section 5.1)."""
    offers = (
        "other, permessage-deflate; server_max_window_bits=8,"
        " permessage-deflate; server_max_window_bits=10, permessage-deflate"
    )
    expected = "permessage-deflate; server_max_window_bits=10"
    assert handshake(serve(app), offers) == (101, expected)


@pytest.mark.parametrize(
    "offer", ["permessage-deflate; =", ",;", "permessage-deflate;;", '"', "a b"]
)
def test_a_malformed_offer_is_answered_with_400(
    serve: Serve, app: Flask, offer: str | None
) -> None:
    """What can't be read is no handshake (RFC 6455 section 9.1)."""
    assert handshake(serve(app), offer) == (400, None)


def test_a_malformed_offer_is_ignored_where_compression_is_off(
    serve: Serve, app: Flask
) -> None:
    """Nothing is read that isn't asked for."""
    app.config["SOCKETS_COMPRESSION"] = False
    assert handshake(serve(app), "permessage-deflate;;") == (101, None)


def test_an_app_cant_agree_on_extensions_by_itself(serve: Serve, app: Flask) -> None:
    """The client would wait for something the connection doesn't speak."""

    @app.after_request
    def add(response: Response) -> Response:
        response.headers[EXTENSIONS] = "permessage-deflate"
        return response

    assert handshake(serve(app), None) == (101, None)


@pytest.mark.parametrize("kind", wire.SERVERS)
@pytest.mark.parametrize("server_resets", [False, True])
@pytest.mark.parametrize("client_resets", [False, True])
@pytest.mark.parametrize("bits", [9, 12, 15])
def test_messages_are_compressed_both_ways_as_agreed(
    kind: str, server_resets: bool, client_resets: bool, bits: int
) -> None:
    """A client that holds to its parameters understands every message."""
    from websockets.sync.client import connect

    def handler(ws: WebSocket) -> None:
        for message in ws:
            ws.send(message)

    offer = ClientPerMessageDeflateFactory(server_resets, client_resets, bits, bits)
    messages: list[t.Any] = [
        "",
        "hello" * 10_000,
        b"",
        bytes(range(256)) * 300,
        "ä" * 70_000,
        "x",
    ]
    with (
        wire.serve(kind, handler, SOCKETS_COMPRESSION=True) as server,
        connect(server.url, extensions=[offer], compression=None) as client,
    ):
        agreed: t.Any
        (agreed,) = client.protocol.extensions
        assert agreed.local_no_context_takeover == client_resets
        assert agreed.remote_no_context_takeover == server_resets
        for message in [*messages, *messages]:
            client.send(message)
            assert client.recv(timeout=10) == message
            client.send([message, message] if message else [b"", b""])
            assert client.recv(timeout=10) == (message + message if message else b"")


# What is said


def test_a_server_compresses_with_what_it_remembers(raw: Connect) -> None:
    """The second message is a reference to the first, unless the client forbids it."""
    text = bytes(range(32, 127)) * 2
    sizes: dict[str, list[int]] = {}
    for offer in ("", "; server_no_context_takeover"):
        client = raw("permessage-deflate" + offer)
        client.send(frame(TEXT, text) * 2)
        sizes[offer] = [len(client.read().payload) for _ in range(2)]
    first, second = sizes[""]
    assert second < first / 4
    first, second = sizes["; server_no_context_takeover"]
    assert second == first


def test_uncompressed_messages_may_come_between_compressed_ones(raw: Connect) -> None:
    """RSV1 is set for each message by itself (section 6), and they keep their order."""
    client = raw()
    deflater = zlib.compressobj(wbits=-15)
    client.send(
        frame(TEXT, deflate(b"one", deflater), reserved=RSV1)
        + frame(TEXT, b"two")
        + frame(TEXT, b"thr", fin=False)
        + frame(CONTINUATION, b"ee")
        + frame(BINARY, deflate(b"one", deflater), reserved=RSV1)
    )
    expected = [(TEXT, b"one"), (TEXT, b"two"), (TEXT, b"three"), (BINARY, b"one")]
    assert [client.read_message() for _ in expected] == expected


def test_a_control_frame_may_come_between_compressed_fragments(raw: Connect) -> None:
    """It is never compressed itself (section 6.1)."""
    client = raw()
    payload = deflate(b"hello")
    client.send(frame(TEXT, payload[:3], fin=False, reserved=RSV1))
    client.send(frame(PING, b"?"), frame(CONTINUATION, payload[3:]))
    assert client.read() == (PONG, b"?")
    assert client.read_message() == (TEXT, b"hello")


@pytest.mark.parametrize(
    "frames",
    [
        frame(PING, b"", reserved=RSV1),
        frame(TEXT, b"", fin=False, reserved=RSV1)
        + frame(CONTINUATION, b"\0", reserved=RSV1),
        frame(TEXT, b"\xff\xff\xff", reserved=RSV1),
        frame(TEXT, deflate(b"hi"), reserved=RSV1 | 1),
    ],
    ids=["a control frame", "a continuation", "no deflate stream", "another bit"],
)
def test_a_wrong_use_of_compression_closes_with_1002(
    raw: Connect, frames: bytes
) -> None:
    """It is a protocol error (section 6)."""
    client = raw()
    client.send(frames)
    assert client.code() == 1002


def test_a_compressed_frame_is_an_error_where_nothing_was_agreed_on(
    raw: Connect, app: Flask
) -> None:
    """RSV1 has no meaning there (RFC 6455 section 5.2)."""
    app.config["SOCKETS_COMPRESSION"] = False
    client = raw()
    client.send(frame(TEXT, deflate(b"hi"), reserved=RSV1))
    assert client.code() == 1002


@pytest.mark.parametrize("pieces", [1, 3])
def test_compressed_text_that_isnt_utf8_closes_with_1007(
    raw: Connect, pieces: int
) -> None:
    """The text is looked at after inflation."""
    payload = deflate(b"\xce\xba\xff")
    client = raw()
    if pieces == 1:
        client.send(frame(TEXT, payload, reserved=RSV1))
    else:
        client.send(frame(TEXT, payload[:2], fin=False, reserved=RSV1))
        client.send(frame(CONTINUATION, payload[2:4], fin=False))
        client.send(frame(CONTINUATION, payload[4:]))
    assert client.code() == 1007


@pytest.mark.parametrize("resets", ["", "; client_no_context_takeover"])
def test_a_client_may_end_its_deflate_stream_with_each_message(
    raw: Connect, resets: str
) -> None:
    """Not every one can flush its compressor (section 7.2.3.4)."""
    client = raw("permessage-deflate" + resets)
    for text in (b"Hello", b"World", bytes(3000), bytes(range(128)) * 100):
        deflater = zlib.compressobj(wbits=-15)
        ended = deflater.compress(text) + deflater.flush(zlib.Z_FINISH)
        client.send(frame(TEXT, ended + b"\0", reserved=RSV1))
        assert client.read_message() == (TEXT, text)
        client.send(frame(TEXT, ended, fin=False, reserved=RSV1))
        client.send(frame(PING), frame(CONTINUATION, b"\0"))
        assert client.read() == (PONG, b"")
        assert client.read_message() == (TEXT, text)


@pytest.mark.parametrize("resets", ["", "; client_no_context_takeover"])
@pytest.mark.parametrize("fin", [True, False])
def test_data_after_the_end_of_the_deflate_stream_closes_with_1002(
    raw: Connect, resets: str, fin: bool
) -> None:
    """It would be kept in memory, and part of the message be lost."""
    deflater = zlib.compressobj(wbits=-15)
    ended = deflater.compress(b"Hello") + deflater.flush(zlib.Z_FINISH)
    client = raw("permessage-deflate" + resets)
    client.send(frame(TEXT, ended + b"more", fin=fin, reserved=RSV1))
    assert client.code() == 1002


def test_concurrent_sends_keep_the_order_of_the_compressor(
    serve: Serve, app: Flask
) -> None:
    """Each message refers to those before it, so no two may change places."""
    is_done = threading.Barrier(9)

    @app.route("/many", websocket=True)
    def many(ws: WebSocket) -> t.Any:
        ws.accept()

        def send(number: int) -> None:
            for index in range(100):
                ws.send(f"{number} {index} " + "some words " * (index % 17))
            is_done.wait(10)

        threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        is_done.wait(10)
        for thread in threads:
            thread.join()

    with serve(app).connect("/many") as client:
        seen: dict[str, list[int]] = {str(number): [] for number in range(8)}
        for _ in range(800):
            number, index, *words = str(client.recv(timeout=10)).split()
            assert words == ["some", "words"] * (int(index) % 17)
            seen[number].append(int(index))
    assert all(indexes == list(range(100)) for indexes in seen.values())


# The bounds


def test_a_compressed_message_may_be_as_large_as_the_limit(
    raw: Connect, app: Flask
) -> None:
    """Also one that compression makes larger, in one piece or with an empty end."""
    from random import Random

    message = Random(1).randbytes(10_000)
    app.config["SOCKETS_MAX_MESSAGE_SIZE"] = len(message)
    client = raw()
    deflater = zlib.compressobj(wbits=-15)
    payload = deflate(message, deflater)
    assert len(payload) > len(message)
    client.send(frame(BINARY, payload, reserved=RSV1))
    assert client.read_message() == (BINARY, message)
    payload = deflater.compress(message) + deflater.flush(zlib.Z_SYNC_FLUSH)
    client.send(frame(BINARY, payload, fin=False, reserved=RSV1))
    client.send(frame(CONTINUATION, b"\0"))
    assert client.read_message() == (BINARY, message)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("pieces", [1, 2])
def test_one_byte_more_than_the_limit_closes_with_1009(
    raw: Connect, app: Flask, compressed: bool, pieces: int
) -> None:
    """What counts is the size after inflation."""
    app.config["SOCKETS_MAX_MESSAGE_SIZE"] = 1000
    client = raw()
    message, reserved = b"x" * 1001, 0
    if compressed:
        message, reserved = deflate(message), RSV1
    if pieces == 1:
        client.send(frame(TEXT, message, reserved=reserved))
    else:
        half = len(message) // 2
        client.send(frame(TEXT, message[:half], fin=False, reserved=reserved))
        client.send(frame(CONTINUATION, message[half:]))
    assert client.code() == 1009


def test_a_declared_length_beyond_the_limit_costs_nothing(raw: Connect) -> None:
    """It is refused before its payload comes, compressed or not."""
    client = raw()
    client.send(frame(BINARY, b"", reserved=RSV1, length=2**62))
    assert client.code() == 1009


@pytest.mark.parametrize("pieces", [1, 50])
def test_a_gibibyte_of_zeros_isnt_inflated(
    raw: Connect, app: Flask, pieces: int
) -> None:
    """It comes in a MiB, and closes the connection with 1009."""
    app.config["SOCKETS_MAX_MESSAGE_SIZE"] = 2 * MIB
    bomb = zeros(2**30)
    assert len(bomb) < 1.1 * MIB
    client = raw()
    size = -(-len(bomb) // pieces)
    tracemalloc.start()
    try:
        for start in range(0, len(bomb), size):
            is_last = start + size >= len(bomb)
            opcode, reserved = (CONTINUATION, 0) if start else (BINARY, RSV1)
            data = bomb[start : start + size]
            try:
                client.send(frame(opcode, data, fin=is_last, reserved=reserved))
            except OSError:  # The server has heard enough.
                break
        assert client.code() == 1009
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The frames, masked and not, and what was inflated up to the limit.
    assert peak < 12 * MIB


def test_no_more_is_inflated_ahead_than_a_handler_that_waits_can_use(
    flavour: wire.Flavour,
) -> None:
    """A single read of 64 KiB may hold a hundred times 64 KiB, many times over."""
    bomb = frame(BINARY, zeros(8 * MIB), reserved=RSV1)
    ws, peer = flavour.connect(max_size=16 * MIB, deflate=True)
    peer.send(*[bomb] * 6)
    connection = ws.connection
    flavour.eventually(lambda: connection.reader.messages)
    flavour.sleep(3 * reader.PATIENCE)
    assert len(connection.reader.messages) == 1
    for _ in range(6):
        assert ws.receive() == bytes(8 * MIB)


@pytest.mark.parametrize("count", [3, 4])
def test_the_number_of_fragments_is_limited_by_the_apps_config(
    raw: Connect, app: Flask, count: int
) -> None:
    """Even empty ones take time: a message of too many closes with 1008."""
    assert app.config["SOCKETS_MAX_FRAGMENTS"] == 131_072
    app.config["SOCKETS_MAX_FRAGMENTS"] = 3
    client = raw()
    middle = [frame(CONTINUATION, fin=False)] * (count - 2)
    client.send(frame(TEXT, b"a", fin=False), *middle, frame(CONTINUATION, b"b"))
    if count == 3:
        assert client.read_message()[0] == TEXT
    else:
        assert client.read().close == (1008, "too many fragments")


def test_no_limit_is_set_where_the_number_of_fragments_is_none(
    raw: Connect, app: Flask
) -> None:
    """As for the size."""
    app.config["SOCKETS_MAX_FRAGMENTS"] = None
    client = raw()
    fragments = frame(CONTINUATION, fin=False) * 1000
    client.send(frame(TEXT, b"a", fin=False), fragments, frame(CONTINUATION, b"b"))
    assert client.read_message() == (TEXT, b"ab")


def test_a_compressed_connection_takes_little_memory() -> None:
    """32 KiB to compress and 16 to inflate, of zlib's, by its documentation."""
    _, (extension,) = choose_compression("permessage-deflate")
    assert isinstance(extension, Deflate)
    assert extension.local_max_window_bits == 12
    assert extension.compress_settings == {"memLevel": 5}
