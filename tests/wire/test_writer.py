"""The side that writes, on one end of a pair of sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import typing as t

import gevent
import pytest

from flask_sockets.wire import frames
from flask_sockets.wire.transport import Transport, transport_for
from flask_sockets.wire.writer import Offer, Output, OutputEnded, Writer, offer_all

from ..wire import BINARY, CLOSE, PING, PONG, TEXT, Flavour, Peer

MIB = 2**20


class Failures:
    """How often a writer has said that the connection is lost."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


Parts: t.TypeAlias = tuple[Writer, Peer, Transport, Failures]


@pytest.fixture
def parts(flavour: Flavour) -> t.Iterator[Parts]:
    server, client = flavour.pair()
    transport = transport_for(server)
    transport.open()
    failures = Failures()
    writer = Writer(transport, transport.scheduler.new_mutex(), failures)
    yield writer, Peer(client), transport, failures
    writer.end()
    transport.close()


@pytest.fixture
def writer(parts: Parts) -> Writer:
    return parts[0]


@pytest.fixture
def peer(parts: Parts) -> Peer:
    return parts[1]


def publication(payload: bytes) -> bytes:
    return frames.encode(BINARY, payload)


def fill(writer: Writer) -> int:
    """Offer frames until the kernel takes no more. How many, and the last is partly
    in the outbox."""
    count = 0
    while writer.offer(publication(bytes(1000)), 1, 0) is Offer.TAKEN:
        count += 1
    return count


# Offers


Offering: t.TypeAlias = "t.Callable[[Writer, bytes, int, int], Offer]"


def offer_to_one(writer: Writer, data: bytes, messages: int, limit: int) -> Offer:
    return writer.offer(data, messages, limit)


def offer_to_many(writer: Writer, data: bytes, messages: int, limit: int) -> Offer:
    """As a publication does it."""
    refused = offer_all([writer], data, messages, limit)
    assert [place for place, _ in refused] in ([], [0])
    return refused[0][1] if refused else Offer.TAKEN


@pytest.fixture(params=[offer_to_one, offer_to_many])
def offer(request: pytest.FixtureRequest) -> Offering:
    return t.cast(Offering, request.param)


def test_what_is_offered_goes_out_at_once(
    offer: Offering, writer: Writer, peer: Peer
) -> None:
    """One or several frames, and nothing is left in the outbox."""
    batch = publication(b"a") + publication(b"b")
    assert offer(writer, batch, 2, 0) is Offer.TAKEN
    assert (writer.outbox_size, writer.is_blocked) == (0, False)
    assert [peer.read(), peer.read()] == [(BINARY, b"a"), (BINARY, b"b")]
    assert (writer.messages, writer.bytes) == (2, 6)


def test_an_offer_never_waits(offer: Offering, writer: Writer, peer: Peer) -> None:
    """What the kernel doesn't take is kept, up to the limit and in order."""
    count = fill(writer)
    rest = writer.outbox_size
    limit = rest + 5000
    taken = 0
    while offer(writer, publication(b"%04d" % taken), 1, limit) is Offer.TAKEN:
        taken += 1
    assert taken == 5000 // 6
    assert writer.outbox_size == rest + 6 * taken
    assert writer.messages == count + taken
    for _ in range(count):
        assert peer.read() == (BINARY, bytes(1000))
    for number in range(taken):
        assert peer.read() == (BINARY, b"%04d" % number)


def test_an_offer_that_is_full_leaves_nothing_behind(
    offer: Offering, flavour: Flavour, writer: Writer, peer: Peer
) -> None:
    """Not even a part of it is sent."""
    count = fill(writer)
    assert offer(writer, publication(b"x" * 10), 1, 1) is Offer.FULL
    for _ in range(count):
        assert peer.read() == (BINARY, bytes(1000))
    flavour.eventually(lambda: not writer.is_blocked)
    assert offer(writer, publication(b"next"), 1, 1) is Offer.TAKEN
    assert peer.read() == (BINARY, b"next")


def test_an_offer_goes_behind_what_waits_though_there_is_room_again(
    offer: Offering, writer: Writer, peer: Peer
) -> None:
    """The client has read some of it, and the scheduler hasn't sent more yet."""
    stream = publication(bytes(1000)) * fill(writer) + publication(b"next")
    raw = getattr(peer.socket, "_sock", peer.socket)  # Nothing else runs meanwhile.
    raw.settimeout(None)
    got = raw.recv(500_000)
    assert offer(writer, publication(b"next"), 1, MIB) is Offer.TAKEN
    while len(got) < len(stream):
        gevent.sleep(0)
        with contextlib.suppress(BlockingIOError):
            got += raw.recv(MIB, socket.MSG_DONTWAIT)
    assert got == stream


def test_the_outbox_is_drained_without_anybodys_doing(
    offer: Offering, flavour: Flavour, writer: Writer, peer: Peer
) -> None:
    """The client reads, and the scheduler sends the rest."""
    data = publication(bytes(8 * MIB))
    assert offer(writer, data, 1, 0) is Offer.TAKEN
    assert writer.is_blocked
    assert peer.read() == (BINARY, bytes(8 * MIB))
    flavour.eventually(lambda: not writer.is_blocked)
    assert writer.outbox_size == 0
    assert writer.taken == len(data)


def test_no_thread_is_left_when_there_is_nothing_to_drain(
    offer: Offering, flavour: Flavour, writer: Writer, peer: Peer
) -> None:
    """It runs only meanwhile."""
    offer(writer, publication(bytes(8 * MIB)), 1, 0)
    peer.read()
    flavour.eventually(
        lambda: "flask-sockets" not in {thread.name for thread in threading.enumerate()}
    )


def test_nothing_can_be_offered_after_a_close(
    offer: Offering, writer: Writer, peer: Peer
) -> None:
    """Nothing follows a Close frame (RFC 6455 section 5.5.1)."""
    writer.put_control(frames.encode(CLOSE, b"\x03\xe8"))
    assert offer(writer, publication(b"late"), 1, MIB) is Offer.CLOSED
    with pytest.raises(OutputEnded):
        writer.write(TEXT, b"late", None)
    writer.put_control(frames.encode(PONG, b"late"))
    writer.end_behind_close()
    assert [answer.opcode for answer in peer.read_to_end()] == [CLOSE]


def test_an_offer_to_a_lost_client_says_so(
    offer: Offering, flavour: Flavour, parts: Parts
) -> None:
    """At the latest when the kernel has found out."""
    writer, peer, _, failures = parts
    peer.socket.close()
    flavour.eventually(lambda: offer(writer, publication(b"x"), 1, 0) is Offer.CLOSED)
    assert failures.count == 1
    assert writer.state is Output.ENDED


# The order


def test_everything_goes_behind_the_outbox(
    offer: Offering, flavour: Flavour, writer: Writer, peer: Peer
) -> None:
    """Messages, pings and the Close, in the order in which they were sent."""
    count = fill(writer)
    sender = flavour.spawn(writer.write, TEXT, b"sent", None)
    flavour.eventually(lambda: writer.is_blocked)
    flavour.sleep(0.02)
    assert offer(writer, publication(b"offered"), 1, MIB) is Offer.TAKEN
    writer.put_control(frames.encode(PING, b"ping"))
    writer.put_control(frames.encode(CLOSE, b"\x03\xe8"))
    writer.end_behind_close()
    assert not sender.is_done
    assert peer.read_to_end()[count:] == [
        (TEXT, b"sent"),
        (BINARY, b"offered"),
        (PING, b"ping"),
        (CLOSE, b"\x03\xe8"),
    ]
    sender.result()


def test_a_newer_pong_takes_the_place_of_an_older(
    offer: Offering, writer: Writer, peer: Peer
) -> None:
    """Only the last ping needs an answer (RFC 6455 section 5.5.3)."""
    count = fill(writer)
    for number in range(100):
        writer.put_control(frames.encode(PONG, b"%d" % number))
    writer.put_control(frames.encode(CLOSE, b""))
    writer.end_behind_close()
    assert peer.read_to_end()[count:] == [(PONG, b"99"), (CLOSE, b"")]


def test_a_pong_that_is_out_is_not_changed(
    offer: Offering, flavour: Flavour, writer: Writer, peer: Peer
) -> None:
    """The next one is another."""
    for number in range(3):
        count = fill(writer)
        writer.put_control(frames.encode(PONG, b"%d" % number))
        for _ in range(count):
            peer.read()
        assert peer.read() == (PONG, b"%d" % number)
        flavour.eventually(lambda: not writer.is_blocked)


def test_those_that_refuse_are_named_and_others_are_served(flavour: Flavour) -> None:
    """By their place, among many."""
    pairs = [flavour.pair() for _ in range(4)]
    writers = []
    for server, _ in pairs:
        transport = transport_for(server)
        transport.open()
        mutex = transport.scheduler.new_mutex()
        writers.append(Writer(transport, mutex, Failures()))
    fill(writers[1])
    writers[2].put_control(frames.encode(CLOSE, b""))
    refused = offer_all(writers, publication(b"news"), 1, 0)
    assert refused == [(1, Offer.FULL), (2, Offer.CLOSED)]
    for place in (0, 3):
        assert Peer(pairs[place][1]).read() == (BINARY, b"news")
    for writer, (_, client) in zip(writers, pairs, strict=True):
        writer.end()
        client.close()


def test_a_close_of_another_thread_comes_behind_what_the_hub_sends(
    writer: Writer, peer: Peer
) -> None:
    """It is the hub that sends it, since publications take no lock."""
    thread = threading.Thread(
        target=writer.put_control, args=[frames.encode(CLOSE, b"")]
    )
    thread.start()
    thread.join()
    assert offer_all([writer], publication(b"x"), 1, 0) in ([], [(0, Offer.CLOSED)])
    opcodes = [peer.read().opcode]
    while opcodes[-1] != CLOSE:
        opcodes.append(peer.read().opcode)
    assert opcodes in ([CLOSE], [BINARY, CLOSE])


# Senders


def test_a_sender_returns_when_the_kernel_has_the_message(
    flavour: Flavour, writer: Writer, peer: Peer
) -> None:
    """And not before."""
    sender = flavour.spawn(writer.write, BINARY, bytes(8 * MIB), None)
    flavour.eventually(lambda: writer.is_blocked)
    assert not sender.is_done
    peer.read()
    sender.result()
    assert writer.messages == 1
    assert writer.outbox_size == 0


def test_a_message_that_has_not_begun_is_taken_back_in_time(
    flavour: Flavour, parts: Parts
) -> None:
    """What was sent before and after it arrives."""
    writer, peer, _, failures = parts
    count = fill(writer)
    before = flavour.spawn(writer.write, TEXT, b"before", None)
    flavour.sleep(0.02)
    with pytest.raises(TimeoutError):
        writer.write(TEXT, b"not sent", time.monotonic() + 0.05)
    assert writer.offer(publication(b"after"), 1, MIB) is Offer.TAKEN
    for _ in range(count):
        peer.read()
    assert [peer.read(), peer.read()] == [(TEXT, b"before"), (BINARY, b"after")]
    before.result()
    assert failures.count == 0


def test_half_a_message_is_a_failure(parts: Parts) -> None:
    """Nothing can follow half a frame."""
    writer, _, _, failures = parts
    with pytest.raises(TimeoutError):
        writer.write(BINARY, bytes(8 * MIB), time.monotonic() + 0.02)
    assert failures.count == 1


def test_an_interrupted_compression_is_a_failure(parts: Parts) -> None:
    """The compressor may have taken a part of the message already."""

    class Interruption(BaseException):
        pass

    def compress(opcode: int, payload: bytes) -> bytes:
        raise Interruption

    writer, _, _, failures = parts
    writer.compress = compress
    with pytest.raises(Interruption):
        writer.write(TEXT, b"x", None)
    assert failures.count == 1


def test_the_end_frees_whoever_waits(flavour: Flavour, writer: Writer) -> None:
    """Senders raise, and who waits for room is called."""
    fill(writer)
    senders = [flavour.spawn(writer.write, TEXT, b"x", None) for _ in range(3)]
    called: list[int] = []
    writer.when_room(lambda: called.append(1))
    flavour.sleep(0.02)
    writer.end()
    for sender in senders:
        with pytest.raises(OutputEnded):
            sender.result()
    assert called == [1]
    assert writer.offer(publication(b"x"), 1, MIB) is Offer.CLOSED


# Room


def test_room_is_told_once(flavour: Flavour, writer: Writer, peer: Peer) -> None:
    """When the client has read what waited for it."""
    called: list[int] = []
    count = fill(writer)
    writer.when_room(lambda: called.append(1))
    flavour.sleep(0.02)
    assert not called
    for _ in range(count):
        peer.read()
    flavour.eventually(lambda: called)
    writer.offer(publication(b"x"), 1, 0)
    flavour.sleep(0.02)
    assert called == [1]


def test_room_that_is_there_is_told_soon(flavour: Flavour, writer: Writer) -> None:
    """Nobody has to ask first."""
    called: list[int] = []
    writer.when_room(lambda: called.append(1))
    flavour.eventually(lambda: called)


def test_who_has_room_may_offer_more(
    flavour: Flavour, writer: Writer, peer: Peer
) -> None:
    """That is what it is for: the newest message, when the client has caught up."""
    count = fill(writer)
    writer.when_room(lambda: writer.offer(publication(b"newest"), 1, 0) and None)
    for _ in range(count):
        peer.read()
    assert peer.read() == (BINARY, b"newest")
