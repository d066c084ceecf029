from __future__ import annotations

import contextlib
import socket
import struct
import time
import tracemalloc
import typing as t

import pytest

from flask_sockets import ConnectionClosed, WebSocket
from flask_sockets.wire import frames, greenlets, reader
from flask_sockets.wire.reader import Input
from flask_sockets.wire.writer import Offer

from .. import wire
from ..wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Flavour,
    Peer,
    close_frame,
    frame,
)

MIB = 2**20


pytestmark = pytest.mark.usefixtures("eager")


def receive_all(ws: WebSocket) -> list[str | bytes]:
    return list(ws)


def fill(ws: WebSocket) -> None:
    """Send frames until the kernel takes no more."""
    data = frames.encode(BINARY, bytes(1000))
    while ws.connection.writer.offer(data, 1, limit=0) is Offer.TAKEN:
        pass


# Messages


def test_messages_come_in_order_and_in_their_types(flavour: Flavour) -> None:
    """Text is 'str' and binary is 'bytes', also those that come in one go."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, "é".encode()), frame(BINARY, b"\xff"), frame(TEXT))
    assert [ws.receive() for _ in range(3)] == ["é", b"\xff", ""]
    for message in ("é", b"\xff", "", b""):
        ws.send(message)
    assert [peer.read() for _ in range(4)] == [
        (TEXT, "é".encode()),
        (BINARY, b"\xff"),
        (TEXT, b""),
        (BINARY, b""),
    ]


def test_a_message_may_come_byte_by_byte(flavour: Flavour) -> None:
    """Where the stream is cut means nothing."""
    ws, peer = flavour.connect()
    task = flavour.spawn(ws.receive)
    for byte in frame(TEXT, b"x" * 200):
        peer.send(bytes((byte,)))
        flavour.sleep(0)
    assert task.result() == "x" * 200


def test_a_timeout_of_zero_takes_what_has_come(patient: None, flavour: Flavour) -> None:
    """Though all there was had been read before: it asks once more."""
    ws, peer = flavour.connect()
    for text in ("a", "b"):
        peer.send(frame(TEXT, text.encode()))
        assert ws.receive(timeout=0) == text
        with pytest.raises(TimeoutError):
            ws.receive(timeout=0)
        peer.send(frame(TEXT, b"read without a timeout"))
        assert ws.receive() == "read without a timeout"


def test_a_fragmented_message_is_put_together(flavour: Flavour) -> None:
    """Control frames may come between the fragments (RFC 6455 section 5.4)."""
    ws, peer = flavour.connect()
    data = "é𝄞".encode()
    peer.send(
        frame(TEXT, data[:1], fin=False),
        frame(PING, b"between"),
        frame(CONTINUATION, data[1:3], fin=False),
        frame(CONTINUATION, fin=False),
        frame(CONTINUATION, data[3:]),
        frame(BINARY, b"a", fin=False),
        frame(CONTINUATION, b"b"),
        frame(TEXT, b"whole"),
    )
    assert [ws.receive() for _ in range(3)] == ["é𝄞", b"ab", "whole"]
    assert peer.read() == (PONG, b"between")


def test_compressed_messages_mix_with_others(flavour: Flavour) -> None:
    """What is compressed goes through the engine, what is not passes by it."""
    ws, peer = flavour.connect(deflate=True)
    compressed = bytes.fromhex("f248cdc9c90700")  # RFC 7692 section 7.2.3.1
    peer.send(
        frame(TEXT, b"plain"),
        frame(TEXT, compressed, reserved=4),
        frame(TEXT, b"plain"),
    )
    assert [ws.receive() for _ in range(3)] == ["plain", "Hello", "plain"]
    ws.send("Hello")
    assert peer.read() == (0x40 | TEXT, compressed)


def test_large_messages_pass_both_ways_at_once(flavour: Flavour) -> None:
    """One may receive while another sends, on the same socket."""
    ws, peer = flavour.connect(max_size=None)
    message = bytes(range(256)) * 4 * 4096
    receiver = flavour.spawn(ws.receive)
    sender = flavour.spawn(ws.send, message)
    client = flavour.spawn(peer.send, frame(BINARY, message))
    assert peer.read() == (BINARY, message)
    assert receiver.result() == message
    sender.result()
    client.result()


def test_a_sent_message_is_not_kept_in_memory(flavour: Flavour) -> None:
    """An idle connection costs the same whatever it has carried."""
    ws, peer = flavour.connect()
    client = flavour.spawn(peer.read)
    tracemalloc.start()
    try:
        ws.send(bytes(8 * MIB))
        client.result()
        client.value = None
        peer.buffer = bytearray()
        assert tracemalloc.get_traced_memory()[0] < 4 * MIB
    finally:
        tracemalloc.stop()


def test_a_large_message_in_small_pieces_takes_linear_time(
    patient: None, flavour: Flavour
) -> None:
    """Four times as much takes about four times as long, not sixteen times."""
    ws, _ = flavour.connect(max_size=None)
    connection = ws.connection

    def feed(size: int) -> float:
        data = frame(BINARY, bytes(size))
        start = time.process_time()
        for position in range(0, len(data), 4096):
            connection.protocol.receive_data(data[position : position + 4096])
            connection.protocol.read()
        assert len(ws.receive() or b"") == size
        return time.process_time() - start

    feed(MIB)
    small = min(feed(4 * MIB) for _ in range(3))
    assert feed(16 * MIB) < 12 * small + 0.1


# Bounds


def test_a_message_of_the_largest_size_is_taken(flavour: Flavour) -> None:
    """The limit is the size of a message, not of a frame or with its header."""
    ws, peer = flavour.connect(max_size=1000)
    peer.send(
        frame(BINARY, bytes(1000)),
        frame(BINARY, bytes(999), fin=False),
        frame(CONTINUATION, bytes(1)),
    )
    assert ws.receive() == bytes(1000)
    assert ws.receive() == bytes(1000)


@pytest.mark.parametrize(
    "data",
    [
        frame(BINARY, bytes(1001)),
        frame(BINARY, length=2**63 - 1),
        frame(BINARY, length=2**63),
        frame(BINARY, length=2**64 - 1)[:10],
        frame(BINARY, bytes(600), fin=False) + frame(CONTINUATION, bytes(600)),
        frame(TEXT, b"a" * 600, fin=False) + frame(CONTINUATION, length=401),
    ],
    ids=["whole", "2^63-1", "2^63", "without mask yet", "fragments", "declared"],
)
def test_a_message_over_the_limit_closes_with_1009(
    flavour: Flavour, data: bytes
) -> None:
    """It is refused by its header. The payload isn't waited for."""
    ws, peer = flavour.connect(max_size=1000)
    peer.send(data)
    assert receive_all(ws) == []
    assert ws.close_code == 1009
    (answer,) = peer.read_to_end()
    assert answer.close[0] == 1009


def test_a_message_over_the_limit_after_inflation_closes_with_1009(
    flavour: Flavour,
) -> None:
    """A small frame can hold a large message."""
    from websockets.extensions.permessage_deflate import PerMessageDeflate
    from websockets.frames import Frame, Opcode

    client = PerMessageDeflate(False, False, 15, 15)
    bomb = bytes(client.encode(Frame(Opcode.BINARY, bytes(MIB))).data)
    assert len(bomb) < 2000
    ws, peer = flavour.connect(max_size=100_000, deflate=True)
    tracemalloc.start()
    try:
        peer.send(frame(BINARY, bomb, reserved=4))
        assert ws.receive() is None
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert peer.read().close[0] == 1009


def test_nothing_is_allocated_for_a_declared_length(flavour: Flavour) -> None:
    """Not even a length within the limit is believed before the bytes come."""
    ws, peer = flavour.connect(max_size=None)
    tracemalloc.start()
    try:
        peer.send(frame(BINARY, length=2**63))
        with pytest.raises(TimeoutError):
            ws.receive(timeout=0.05)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def test_a_control_frame_does_not_count_towards_a_message(flavour: Flavour) -> None:
    """A ping inside of a message that has reached the limit is answered."""
    ws, peer = flavour.connect(max_size=10)
    peer.send(
        frame(BINARY, bytes(10), fin=False),
        frame(PING, b"more than ten bytes"),
        frame(CONTINUATION),
        close_frame(4000, "more than ten bytes"),
    )
    assert receive_all(ws) == [bytes(10)]
    assert ws.close_reason == "more than ten bytes"
    assert peer.read() == (PONG, b"more than ten bytes")


def test_too_many_fragments_close_with_1008(flavour: Flavour) -> None:
    """Empty fragments never reach the limit of size, but they cost time."""
    ws, peer = flavour.connect(max_fragments=5)
    four_more = frame(CONTINUATION, fin=False) * 3 + frame(CONTINUATION)
    peer.send(frame(TEXT, b"a", fin=False), four_more)
    assert ws.receive() == "a"
    peer.send(frame(TEXT, b"a", fin=False), frame(CONTINUATION, fin=False) * 4)
    assert ws.receive() is None
    assert peer.read().close == (1008, "too many fragments")


def test_what_is_read_ahead_is_bounded(flavour: Flavour) -> None:
    """A handler that doesn't receive makes the client wait, and loses nothing."""
    ws, peer = flavour.connect(tcp=True)
    count = 30
    client = flavour.spawn(peer.send, frame(BINARY, bytes(MIB)) * count)
    flavour.eventually(lambda: not ws.connection.protocol.has_room())
    flavour.sleep(10 * reader.PATIENCE)
    assert 1 <= len(ws.connection.reader.messages) <= 3
    for _ in range(count):
        assert len(ws.receive() or b"") == MIB
    client.result()


def test_pings_are_held_one_at_a_time(flavour: Flavour) -> None:
    """A client that sends pings and reads nothing costs one pong of memory."""
    ws, peer = flavour.connect()
    fill(ws)
    pings = [frame(PING, b"%d" % number) for number in range(5000)]
    client = flavour.spawn(peer.send, *pings, frame(TEXT, b"behind them"))
    flavour.eventually(lambda: ws.connection.reader.messages)
    while (answer := peer.read()).opcode != PONG:
        pass
    assert answer.payload == b"4999"
    client.result()
    ws.send("next")
    assert peer.read() == (TEXT, b"next")


# What is wrong


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"("), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION), 1007),
        (frame(TEXT, b"\xff", fin=False), 1007),
        (close_frame(1000, b"\xff"), 1007),
        (frame(TEXT, b"a", masked=False), 1002),
        (frame(PING, masked=False), 1002),
        (frame(CONTINUATION), 1002),
        (frame(CONTINUATION, fin=False), 1002),
        (frame(TEXT, fin=False) + frame(TEXT), 1002),
        (frame(TEXT, fin=False) + frame(BINARY, fin=False), 1002),
        (frame(PING, fin=False), 1002),
        (frame(CLOSE, fin=False), 1002),
        (frame(PING, bytes(126)), 1002),
        (frame(PONG, length=126)[:4], 1002),
        (frame(CLOSE, length=2**63), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        *((frame(opcode), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        *((frame(TEXT, b"a", reserved=bits), 1002) for bits in (1, 2, 4, 7)),
        *((frame(PING, reserved=bits), 1002) for bits in (1, 2, 4)),
        *(
            (close_frame(code), 1002)
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
        ),
    ],
)
def test_a_bad_frame_closes_the_connection(
    flavour: Flavour, data: bytes, code: int
) -> None:
    """The good message in front of it is delivered, nothing behind it is."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, b"good"), data, frame(TEXT, b"behind"))
    assert receive_all(ws) == ["good"]
    assert ws.close_code == code
    assert ws.closed
    (answer,) = peer.read_to_end()
    assert answer.close[0] == code


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (close_frame(4000), 4000),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xff", fin=False), 1007),
        (frame(TEXT, masked=False), 1002),
        (frame(BINARY, length=2**63), 1009),
    ],
)
def test_messages_are_answered_before_the_end_behind_them(
    patient: None, flavour: Flavour, end: bytes, code: int
) -> None:
    """Though all of it comes at once: the handler takes one after the other."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, b"a"), frame(BINARY, b"b"), end)
    for message in ws:
        ws.send(message)
    assert [peer.read(), peer.read()] == [(TEXT, b"a"), (BINARY, b"b")]
    assert peer.read().close[0] == ws.close_code == code


# The end


@pytest.mark.parametrize(
    ("data", "code", "reason"),
    [
        (close_frame(1000, "done"), 1000, "done"),
        (close_frame(1001), 1001, ""),
        (close_frame(3000, "é" * 61), 3000, "é" * 61),
        (close_frame(4999), 4999, ""),
        (close_frame(None), 1005, ""),
    ],
)
def test_a_close_is_answered_with_the_same(
    flavour: Flavour, data: bytes, code: int, reason: str
) -> None:
    """The handler sees the client's code, 1005 for none (RFC 6455 section 7.1.5)."""
    ws, peer = flavour.connect()
    peer.send(data)
    assert ws.receive() is None
    assert (ws.closed, ws.close_code, ws.close_reason) == (True, code, reason)
    assert peer.read_to_end() == [(CLOSE, data[6:] and _unmask(data))]


def _unmask(data: bytes) -> bytes:
    return bytes(b ^ wire.MASK[n % 4] for n, b in enumerate(data[6:]))


def test_a_close_between_fragments_is_answered_as_such(flavour: Flavour) -> None:
    """A control frame may come there, and half a message is nothing wrong."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, b"half", fin=False), close_frame(1000, "enough"))
    assert ws.receive() is None
    assert (ws.close_code, ws.close_reason) == (1000, "enough")
    assert [answer.close for answer in peer.read_to_end()] == [(1000, "enough")]


def test_what_comes_after_the_end_is_not_parsed(flavour: Flavour) -> None:
    """Neither messages nor pings, in the same read or in a later one."""
    ws, peer = flavour.connect()
    peer.send(close_frame(), frame(TEXT, b"late"), frame(PING))
    assert receive_all(ws) == []
    with pytest.raises(ConnectionClosed):
        ws.send("late")
    peer.send(frame(TEXT, b"later"), frame(PING), frame(TEXT, masked=False))
    finisher = flavour.spawn(ws.connection.finish, 1000, "")
    assert [answer.opcode for answer in peer.read_to_end()] == [CLOSE]
    peer.socket.close()
    finisher.result()
    assert ws.connection.reader.messages == type(ws.connection.reader.messages)()
    assert ws.close_code == 1000


def test_nothing_follows_a_close_frame(flavour: Flavour) -> None:
    """Pings that come after it aren't answered, nor anything else sent."""
    ws, peer = flavour.connect()
    ws.close(4000, "over")
    peer.send(frame(PING, b"late"), frame(TEXT, b"late"))
    assert ws.receive() == "late"  # It was under way.
    with pytest.raises(ConnectionClosed):
        ws.send("late")
    with pytest.raises(ConnectionClosed):
        ws.ping()
    ws.close(1001)
    finisher = flavour.spawn(ws.connection.finish, 1000, "")
    peer.send(frame(PING, b"late"), close_frame(4000, "over"))
    assert [answer.close for answer in peer.read_to_end()] == [(4000, "over")]
    peer.socket.close()
    finisher.result()
    assert (ws.close_code, ws.close_reason) == (4000, "over")


@pytest.mark.parametrize("how", ["end", "reset"])
def test_a_client_that_vanishes_is_1006(flavour: Flavour, how: str) -> None:
    """Without a Close frame the code is 1006 (RFC 6455 section 7.1.5)."""
    ws, peer = flavour.connect(tcp=True)
    peer.send(frame(TEXT, b"last"))
    assert ws.receive() == "last"
    receiver = flavour.spawn(ws.receive)
    if how == "end":
        peer.socket.close()
    else:
        peer.reset()
    assert receiver.result() is None
    assert (ws.closed, ws.close_code, ws.close_reason) == (True, 1006, "")
    with pytest.raises(ConnectionClosed) as caught:
        ws.send("x")
    assert caught.value.code == 1006


def test_the_clients_last_word_counts_if_sending_fails(
    patient: None, flavour: Flavour
) -> None:
    """A handler that only sends finds a dead socket, with the Close frame unread."""
    ws, peer = flavour.connect(tcp=True)
    peer.send(*map(frame, [TEXT] * 2, [b"read", b"unread"]), close_frame(4001, "bye"))
    assert ws.receive() == "read"
    peer.socket.close()
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            ws.send("x")
            flavour.sleep(0.001)
    assert (caught.value.code, caught.value.reason) == (4001, "bye")
    assert ws.receive() == "unread"
    assert ws.receive() is None


def test_the_server_ends_the_stream_first(flavour: Flavour) -> None:
    """A client waits for that (RFC 6455 section 7.1.1), and may do so for long."""
    ws, peer = flavour.connect(tcp=True)
    ws.close()
    finisher = flavour.spawn(ws.connection.finish, 1000, "")
    peer.send(close_frame())
    assert [answer.opcode for answer in peer.read_to_end()] == [CLOSE]
    peer.socket.close()
    finisher.result()


def test_finish_waits_for_the_client(flavour: Flavour) -> None:
    """A socket closed too early would be reset, and the Close frame lost."""
    ws, peer = flavour.connect(tcp=True)
    finisher = flavour.spawn(ws.connection.finish, 1011, "failed")
    assert peer.read().close == (1011, "failed")
    peer.send(frame(BINARY, bytes(1000)) * 100)
    flavour.sleep(0.05)
    assert not finisher.is_done
    peer.send(close_frame(1011))
    peer.socket.close()
    finisher.result()
    assert not ws.connection.reader.messages


def test_finish_cuts_a_client_that_does_not_answer(flavour: Flavour) -> None:
    """Also one that sends without pause."""
    ws, peer = flavour.connect(tcp=True)

    def flood() -> None:
        with contextlib.suppress(OSError):
            while True:
                peer.send(frame(BINARY, bytes(1000)) * 100)

    flooder = flavour.spawn(flood)
    ws.connection.finish(1000, "", timeout=0.1)
    with contextlib.suppress(OSError):
        peer.socket.shutdown(socket.SHUT_RDWR)
    flooder.result()
    assert not ws.connection.reader.messages
    assert ws.connection.reader.state is Input.ENDED


def test_finish_ends_whoever_is_still_at_the_socket(flavour: Flavour) -> None:
    """The handler may leave a receiver and a sender behind. The socket is given
    back when they are done with it, and as it was."""
    server, client = flavour.pair(tcp=True)
    server.settimeout(12)
    ws = flavour.websocket(server)
    ws.accept()
    peer = Peer(client)
    fill(ws)
    receiver = flavour.spawn(ws.receive)
    senders = [flavour.spawn(ws.send, bytes(16 * MIB)) for _ in range(3)]
    flavour.eventually(lambda: ws.connection.writer.is_blocked)
    ws.connection.finish(1000, "", timeout=0.05)
    assert server.gettimeout() == 12
    assert receiver.result() is None
    for sender in senders:
        with pytest.raises(ConnectionClosed):
            sender.result()
    peer.socket.close()


def test_the_socket_is_given_back_when_nobody_uses_it(
    patient: None, flavour: Flavour
) -> None:
    """The keeper, or a greenlet left behind, may be in the middle of a read."""
    server, _ = flavour.pair()
    server.settimeout(12)
    ws = flavour.websocket(server)
    ws.accept()
    transport: t.Any = ws.connection.transport
    receive, may_go_on = transport.receive, transport.new_event()

    def receive_late(size: int) -> bytes:
        may_go_on.wait()
        assert server.gettimeout() == 0
        return t.cast(bytes, receive(size))

    transport.receive = receive_late
    receiver = flavour.spawn(ws.receive)
    flavour.eventually(lambda: ws.connection.reader.is_busy)
    finisher = flavour.spawn(ws.connection.finish, 1000, "", 0)
    flavour.eventually(lambda: ws.connection.reader.state is Input.ENDED)
    flavour.sleep(0.05)
    assert server.gettimeout() == 0
    may_go_on.set()
    finisher.result()
    assert receiver.result() is None
    assert server.gettimeout() == 12


def test_a_late_look_leaves_the_socket_alone(flavour: Flavour) -> None:
    """The keeper may have a connection on its list that is finished meanwhile."""
    server, client = flavour.pair(tcp=True)
    ws = flavour.websocket(server)
    ws.accept()
    peer = Peer(client)
    peer.send(close_frame())
    assert ws.receive() is None
    peer.socket.close()
    ws.connection.finish(1000, "")
    transport = ws.connection.transport
    ws.connection.transport = t.cast(t.Any, None)  # Any use of it fails.
    ws.connection.look_after(float("inf"))
    ws.connection.go_away(1001, "")
    with pytest.raises(ConnectionClosed):
        ws.send("x")
    with pytest.raises(ConnectionClosed):
        ws.receive()
    ws.connection.transport = transport


def test_a_socket_that_is_closed_already_is_a_lost_client(flavour: Flavour) -> None:
    """Before the handshake as after it, whatever closed it."""
    server, _ = flavour.pair()
    server.close()
    ws = flavour.websocket(server)
    assert ws.receive() is None
    assert ws.close_code == 1006

    server, _ = flavour.pair()
    ws = flavour.websocket(server)
    ws.accept()
    server.close()
    with pytest.raises(ConnectionClosed):
        ws.send("x")
    assert ws.receive() is None
    assert ws.close_code == 1006


# Several at once


def test_messages_sent_at_once_never_interleave(flavour: Flavour) -> None:
    """Many send large messages while the client sends pings and reads slowly."""
    ws, peer = flavour.connect()
    sizes = [70_000, 300_000, 10]

    def send(number: int) -> None:
        for size in sizes:
            ws.send(bytes((number,)) * size)

    senders = [flavour.spawn(send, number) for number in range(1, 9)]
    receiver = flavour.spawn(ws.receive)
    got: dict[int, list[int]] = {}
    for _ in range(len(senders) * len(sizes)):
        peer.send(frame(PING, b"p"))
        while (answer := peer.read()).opcode == PONG:
            assert answer.payload == b"p"
        assert answer.opcode == BINARY
        number = answer.payload[0]
        assert answer.payload == bytes((number,)) * len(answer.payload)
        got.setdefault(number, []).append(len(answer.payload))
    assert got == dict.fromkeys(range(1, 9), sizes)
    for sender in senders:
        sender.result()
    peer.send(close_frame())
    assert receiver.result() is None


def test_finish_sees_what_another_has_read(flavour: Flavour) -> None:
    """It waits behind a receiver, which reads the client's Close."""
    ws, peer = flavour.connect()
    receiver = flavour.spawn(ws.receive)
    finisher = flavour.spawn(ws.connection.finish, 1000, "")
    assert peer.read().opcode == CLOSE
    peer.send(close_frame())
    assert receiver.result() is None
    peer.socket.close()
    finisher.result()


@pytest.mark.usefixtures("eager")
def test_nobody_receives_what_finish_throws_away(flavour: Flavour) -> None:
    """Whoever comes while it waits for the client is told that it is the end, though
    there is a message that nobody has received."""
    ws, peer = flavour.connect()
    peer.send(frame(TEXT, b"late"))
    flavour.eventually(lambda: bool(ws.connection.reader.messages))
    finisher = flavour.spawn(ws.connection.finish, 1000, "")
    assert peer.read().opcode == CLOSE
    assert flavour.spawn(ws.receive).result() is None
    peer.send(close_frame())
    peer.socket.close()
    finisher.result()


def test_messages_and_looks_race(flavour: Flavour, monkeypatch: t.Any) -> None:
    """The keeper reads all the time, and nothing is lost, doubled or swapped."""
    monkeypatch.setattr(reader, "PATIENCE", 0)
    ws, peer = flavour.connect()

    def send() -> None:
        for number in range(3000):
            peer.send(frame(TEXT, b"%d" % number))
            if number % 7 == 0:
                flavour.sleep(0)
        peer.send(close_frame(4000))

    client = flavour.spawn(send)
    receiver = flavour.spawn(receive_all, ws)
    assert receiver.result() == [str(number) for number in range(3000)]
    client.result()
    assert ws.close_code == 4000


def test_a_client_that_never_pauses_lets_others_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A gevent socket that always has something to read never waits by itself."""
    monkeypatch.setattr(greenlets, "TURN", 0)
    flavour = wire.Greenlets()
    ws, peer = flavour.connect()
    # A turn begins when somebody has waited, not in the middle of an earlier test.
    receiver = flavour.spawn(ws.receive)
    flavour.eventually(lambda: ws.connection.reader.is_busy)
    peer.send(frame(TEXT, b"x") * 100)
    assert receiver.result() == "x"
    for use in (ws.receive, lambda: ws.send("x")):
        others = [flavour.spawn(int) for _ in range(2)]
        for _ in range(10):
            use()
        assert all(other.is_done for other in others)
    flavour.clean_up()


# A client that doesn't read


def test_send_gives_up_in_time_and_can_be_repeated(flavour: Flavour) -> None:
    """What hasn't begun is taken back, and the connection goes on."""
    ws, peer = flavour.connect()
    fill(ws)
    with pytest.raises(TimeoutError):
        ws.send("not sent", timeout=0.05)
    assert not ws.closed
    drained = _drain(peer)
    assert b"not sent" not in drained
    ws.send("sent")
    assert peer.read() == (TEXT, b"sent")


def _drain(peer: Peer) -> bytes:
    peer.socket.settimeout(0.05)
    data = b""
    with pytest.raises((TimeoutError, OSError)):
        while chunk := peer.socket.recv(65536):
            data += chunk
    peer.socket.settimeout(wire.PATIENCE)
    return data


def test_half_a_message_is_the_end(flavour: Flavour) -> None:
    """Nothing can follow half a frame: the connection is lost."""
    ws, peer = flavour.connect(tcp=True)
    with pytest.raises(TimeoutError):
        ws.send(bytes(64 * MIB), timeout=0.05)
    # Where somebody reads at this moment, they are the ones who find it.
    flavour.eventually(lambda: ws.closed)
    assert ws.close_code == 1006
    with pytest.raises(ConnectionClosed):
        ws.send("x")
    # All of it is a part of that one frame: no Close is in it.
    total = 0
    header = peer._read(10)
    assert header == struct.pack("!BBQ", 0x82, 127, 64 * MIB)
    while data := peer.socket.recv(65536):
        assert not data.strip(b"\0")
        total += len(data)
    assert total < 64 * MIB


def test_a_timeout_counts_while_waiting_for_another_sender(flavour: Flavour) -> None:
    """A sender that waits behind another one gives up without any harm."""
    ws, peer = flavour.connect(tcp=True)
    first = flavour.spawn(ws.send, bytes(16 * MIB))
    flavour.eventually(lambda: ws.connection.writer.is_blocked)
    with pytest.raises(TimeoutError):
        ws.send("second", timeout=0.05)
    assert len(peer.read().payload) == 16 * MIB
    first.result()
    ws.send("third")
    assert peer.read() == (TEXT, b"third")


def test_a_close_waits_for_the_messages_before_it(flavour: Flavour) -> None:
    """Also for one whose sender waits behind another, but takes no more after it."""
    ws, peer = flavour.connect()
    first = flavour.spawn(ws.send, bytes(16 * MIB))
    flavour.eventually(lambda: ws.connection.writer.is_blocked)
    second = flavour.spawn(ws.send, "in time")
    flavour.sleep(0.02)
    ws.close(4000)
    with pytest.raises(ConnectionClosed):
        ws.send("too late")
    assert len(peer.read().payload) == 16 * MIB
    assert peer.read() == (TEXT, b"in time")
    assert peer.read().close == (4000, "")
    peer.send(close_frame(4000))
    assert peer.read_to_end() == []
    first.result()
    second.result()


def test_a_greenlet_killed_inside_of_a_send_loses_the_connection() -> None:
    """Half a frame may be out (the others wake up and find that out)."""
    flavour = wire.Greenlets()
    ws, _ = flavour.connect()
    receiver = flavour.spawn(ws.receive)
    first = flavour.spawn(ws.send, bytes(16 * MIB))
    second = flavour.spawn(ws.send, "second")
    flavour.eventually(lambda: ws.connection.writer.is_blocked)
    first.handle.kill()
    with pytest.raises(ConnectionClosed):
        second.result()
    assert receiver.result() is None
    assert ws.close_code == 1006
    flavour.clean_up()


def test_a_greenlet_killed_in_the_queue_does_no_harm() -> None:
    """It had sent nothing, whether it waited for others or for the client."""
    flavour = wire.Greenlets()
    ws, peer = flavour.connect()
    first = flavour.spawn(ws.send, bytes(MIB))
    second = flavour.spawn(ws.send, "second")
    flavour.eventually(lambda: ws.connection.writer.is_blocked)
    second.handle.kill()
    assert len(peer.read().payload) == MIB
    first.result()
    ws.send("third")
    assert peer.read() == (TEXT, b"third")
    flavour.clean_up()


def test_a_blocked_send_does_not_hinder_receiving(flavour: Flavour) -> None:
    """Nor does it hinder the connection's being closed."""
    ws, peer = flavour.connect()
    sender = flavour.spawn(ws.send, bytes(16 * MIB))
    flavour.eventually(lambda: ws.connection.writer.is_blocked)
    peer.send(frame(TEXT, b"a"), frame(PING), close_frame(4000))
    assert receive_all(ws) == ["a"]
    assert not sender.is_done
    assert len(peer.read().payload) == 16 * MIB
    sender.result()
    assert [answer.close for answer in peer.read_to_end()[-1:]] == [(4000, "")]


def test_a_close_frame_waits_for_the_message_before_it(flavour: Flavour) -> None:
    """The keeper sends it when the client makes room, also without a writer."""
    ws, peer = flavour.connect()
    fill(ws)
    ws.close(4000, "late")
    assert ws.closed
    peer.send(close_frame(4000))
    assert peer.read_to_end()[-1].close == (4000, "late")


def test_a_lost_connection_frees_a_blocked_sender(flavour: Flavour) -> None:
    """Whoever finds the loss, all others learn of it."""
    ws, peer = flavour.connect(tcp=True)
    senders = [flavour.spawn(ws.send, bytes(16 * MIB)) for _ in range(3)]
    receiver = flavour.spawn(ws.receive)
    flavour.eventually(lambda: ws.connection.writer.is_blocked)
    peer.reset()
    for sender in senders:
        with pytest.raises(ConnectionClosed):
            sender.result()
    assert receiver.result() is None


def test_a_client_may_vanish_in_the_middle_of_the_handshake(flavour: Flavour) -> None:
    """The answer is written without waiting, whatever becomes of it."""
    ws, peer = flavour.connect(tcp=True, answer=lambda: bytes(16 * MIB))
    ws.accept()
    peer.reset()
    assert ws.receive() is None
    assert ws.close_code == 1006


def test_a_long_answer_to_the_handshake_is_sent_by_and_by(flavour: Flavour) -> None:
    """Messages wait for it."""
    answer = b"HTTP/1.1 101 Switching Protocols\r\n" + b"x" * MIB
    ws, peer = flavour.connect(answer=lambda: answer)
    ws.accept()
    sender = flavour.spawn(ws.send, "first")
    assert peer._read(len(answer)) == answer
    assert peer.read() == (TEXT, b"first")
    sender.result()


# Frames that are offered


def test_ready_frames_pass_a_connection_with_compression(flavour: Flavour) -> None:
    """Uncompressed, between compressed messages (RFC 7692 section 6)."""
    ws, peer = flavour.connect(deflate=True)
    ws.send("Hello")
    assert (
        ws.connection.writer.offer(frames.encode(TEXT, b"plain"), 1, MIB) is Offer.TAKEN
    )
    ws.send("Hello")
    opcodes = [peer.read().opcode for _ in range(3)]
    assert opcodes == [0x40 | TEXT, TEXT, 0x40 | TEXT]
    assert ws.connection.writer.messages == 3


@pytest.mark.parametrize("how", ["client", "server", "loss", "finish"])
def test_a_close_is_told_once(flavour: Flavour, how: str) -> None:
    """However it happens, and also if somebody asks too late."""
    ws, peer = flavour.connect(tcp=True)
    told: list[int] = []
    ws.connection.when_closed(lambda: told.append(1))
    flavour.sleep(0.02)
    assert not told
    if how == "client":
        peer.send(close_frame())
    elif how == "server":
        ws.close()
    elif how == "loss":
        peer.reset()
    else:
        ws.connection.finish(1000, "", timeout=0)
    flavour.eventually(lambda: told)
    ws.connection.finish(1000, "", timeout=0)
    ws.connection.when_closed(lambda: told.append(2))
    flavour.eventually(lambda: len(told) == 2)
    assert told == [1, 2]
