"""What goes out on a connection: whole frames, in order.

What the kernel doesn't take at once is kept in an outbox. Whatever comes later goes
behind it, and the scheduler sends it as the client makes room. So nothing here waits
but a sender who wants to know that the kernel has its message.
"""

from __future__ import annotations

import collections
import enum
import functools
import socket
import time
import typing as t

from . import frames
from .frames import SHORT_HEADERS
from .transport import NOT_NOW

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .transport import Event, Transport


class Output(enum.Enum):
    """How far the output of a connection has come."""

    #: Messages can be sent.
    OPEN = enum.auto()
    #: A Close frame is due or out. Nothing may follow it (RFC 6455 section 5.5.1).
    CLOSING = enum.auto()
    #: The stream ends as soon as the Close frame is out.
    ENDING = enum.auto()
    #: The stream has ended.
    ENDED = enum.auto()


class Offer(enum.Enum):
    """What became of frames that were offered to a connection.

    .. versionadded:: 1.0
    """

    #: The kernel has them, or the outbox.
    TAKEN = enum.auto()
    #: The outbox has no room for them. Nothing was taken.
    FULL = enum.auto()
    #: The connection is closed. Nothing was taken.
    CLOSED = enum.auto()


# Looking up a member of an enum takes longer than all that is done with it here (until
# Python 3.12).
_OPEN = Output.OPEN
_TAKEN = Offer.TAKEN


class OutputEnded(Exception):
    """Nothing more can be sent."""


class _Piece:
    """A part of the outbox: whole frames, or what is left of them."""

    __slots__ = ("data", "event", "is_begun", "is_offered")

    def __init__(self, data: bytes | memoryview, is_begun: bool) -> None:
        #: What is left to send.
        self.data = memoryview(data)
        #: Whether a part of it may be out, so that it can't be changed any more.
        self.is_begun = is_begun
        #: Whether it counts towards the limit of an offer.
        self.is_offered = False
        #: What its sender waits for.
        self.event: Event | None = None


_NOTHING = memoryview(b"")

#: The outbox of a connection that has nothing in it. Not to be changed.
_EMPTY: collections.deque[_Piece] = collections.deque()


class Writer:
    """The side of a connection that writes.

    All methods may be called by any greenlet of the connection's hub, or by any thread
    where threads serve it.

    :param transport: where it goes. It has to be open before anything is sent.
    :param mutex: held for an instant at a time, also while the socket is written to.
    :param on_failure: called when sending fails, since the connection is lost.
    """

    # A publication looks at some of these for each of many connections. As slots they
    # lie side by side in memory.
    __slots__ = (
        *("_controls", "_enter", "_mutex", "_on_failure", "_outbox"),
        *("_room_callbacks", "_send", "_transport", "bytes", "compress"),
        *("messages", "outbox_size", "send_at_once", "state", "taken"),
    )

    def __init__(
        self, transport: Transport, mutex: t.Any, on_failure: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._on_failure = on_failure
        # For speed: these are called for each message.
        self._enter = transport.scheduler.enter
        self._send = transport.raw_send
        self._mutex = mutex
        self._outbox = _EMPTY
        # Control frames in the outbox, by opcode.
        self._controls: dict[int, _Piece] = {}
        # Called once the outbox is empty.
        self._room_callbacks: list[Callable[[], None]] = []
        self.state = Output.OPEN
        #: The socket's own ``send``, while it may be called on the hub without further
        #: ado: messages can be sent, and nothing waits in the outbox. It raises an
        #: ``OSError`` also when the kernel takes nothing now.
        self.send_at_once = transport.send_on_hub
        #: How many messages were sent.
        self.messages = 0
        #: The bytes of their payloads and, of those that were offered, of their frames.
        self.bytes = 0
        #: Bytes in the outbox that were offered.
        self.outbox_size = 0
        #: Bytes that the kernel has taken so far.
        self.taken = 0
        #: Makes the frame of a message in place of :func:`.frames.encode`, if messages
        #: are compressed: each depends on those before it.
        self.compress: Callable[[int, bytes], bytes] | None = None

    @property
    def is_blocked(self) -> bool:
        """Whether something waits for the client to read."""
        return bool(self._outbox)

    # Without waiting

    def offer(self, data: bytes, messages: int, limit: int) -> Offer:
        """Take ready frames, and don't wait for the client.

        They go out before anything that is sent later, or not at all. Called on the
        hub that the connection belongs to or, where threads serve it, by any thread.

        :param data: one or more whole frames, neither fragmented nor compressed, as
            :func:`.frames.encode` makes them. A connection that has agreed on
            compression takes them as well (RFC 7692 section 6).
        :param messages: how many they are, for the statistics.
        :param limit: how many bytes may wait for the client, those offered before
            included. Frames that find nothing waiting are always taken.

        .. versionadded:: 1.0
        """
        with self._mutex:
            if self.state is not _OPEN:
                return Offer.CLOSED

            size = 0

            if not self._outbox:
                try:
                    size = self._send(data)
                except NOT_NOW:
                    size = 0
                except OSError:
                    size = -1
                    self._end()
            elif self.outbox_size + len(data) > limit:
                return Offer.FULL

            if size >= 0:
                self._take(data, messages, size)
                return _TAKEN

        self._on_failure()
        return Offer.CLOSED

    def take_rest(self, data: bytes, messages: int, size: int) -> None:
        """Take the rest of frames of which :attr:`send_at_once` has sent a part."""
        with self._mutex:
            self._take(data, messages, size)

    def put(self, data: bytes) -> None:
        """Send what is no frame: the answer to the handshake."""
        with self._mutex:
            has_failed = self.state is _OPEN and not self._put(data)

        if has_failed:
            self._on_failure()

    def put_control(self, frame: bytes) -> None:
        """Send a ping, pong or Close frame, if it may still be sent, or several pongs.

        A newer pong takes the place of one that isn't out yet (RFC 6455 section 5.5.3),
        and a ping that of a ping. So a client that sends pings but reads nothing makes
        us hold one of them at most.
        """
        # On the hub, if there is one: whoever uses 'send_at_once' there has no lock.
        self._transport.scheduler.run_or_call_soon(
            functools.partial(self._put_control, frame)
        )

    def _put_control(self, frame: bytes) -> None:
        opcode = frame[0] & 0x0F

        with self._mutex:
            if self.state is not _OPEN:
                return

            if opcode == frames.CLOSE:
                self._change_to(Output.CLOSING)

            before = self._controls.get(opcode) if self._outbox else None

            if before is not None and before.data and not before.is_begun:
                before.data = memoryview(frame)
                return

            has_failed = not self._put(frame)

            if self._outbox:
                self._controls[opcode] = self._outbox[-1]

        if has_failed:
            self._on_failure()

    def end_behind_close(self) -> None:
        """End the stream as soon as the Close frame is out, if there is one."""
        self._transport.scheduler.run_or_call_soon(self._end_behind_close)

    def _end_behind_close(self) -> None:
        with self._mutex:
            if self.state is Output.CLOSING:
                self._change_to(Output.ENDING)

                if not self._outbox:
                    self._end_stream()

    def end(self) -> None:
        """Nothing can be sent any more. Whoever waits learns that."""
        with self._mutex:
            self._end()
            callbacks = self._take_callbacks()
            # Nothing can fail now. These would keep the connection in memory.
            self._on_failure, self.compress = _do_nothing, None

        for callback in callbacks:
            callback()

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call a function once nothing waits for the client to read any more, or the
        connection is lost.

        It is called exactly once, on the connection's scheduler, and must not block.
        If nothing waits now it is called soon.

        .. versionadded:: 1.0
        """
        with self._mutex:
            if self._outbox:
                self._room_callbacks.append(callback)
                return

        self._transport.call_soon(callback)

    # With waiting

    def write(self, opcode: int, payload: bytes, deadline: float | None) -> None:
        """Send a whole message, and wait until the kernel has taken it.

        :param deadline: in the terms of :func:`time.monotonic`.
        :raises TimeoutError: at the deadline.
        :raises OutputEnded: if the connection is closed, or lost meanwhile.
        """
        if not self._enter():
            self._write_from_elsewhere(opcode, payload, deadline)
            return

        try:
            with self._mutex:
                if self.state is not _OPEN:
                    raise OutputEnded

                length = len(payload)

                if self.compress is not None:
                    frame = self.compress(opcode, payload)
                elif length < 126:
                    frame = SHORT_HEADERS[opcode][length] + payload
                else:
                    frame = frames.encode(opcode, payload)

                try:
                    size = 0 if self._outbox else self._send(frame)
                except NOT_NOW:
                    size = 0

                self.taken += size

                if size == len(frame):
                    self.messages += 1
                    self.bytes += length
                    return

                piece = self._keep(frame, size)
                piece.event = self._transport.new_event()
        except OutputEnded:
            raise
        except OSError:
            self._on_failure()
            raise OutputEnded from None
        except BaseException:
            # The compressor may have taken a part of the message, which would come
            # out with the next one.
            self._on_failure()
            raise

        self._wait_for(piece, deadline)
        self.messages += 1
        self.bytes += len(payload)

    def _write_from_elsewhere(
        self, opcode: int, payload: bytes, deadline: float | None
    ) -> None:
        """Send a message from a thread that isn't the hub's: a greenlet of that hub
        does it, and this thread waits."""
        done = self._transport.new_thread_event()
        outcome: list[BaseException | None] = []

        def write() -> None:
            try:
                self.write(opcode, payload, deadline)
                outcome.append(None)
            except BaseException as error:
                outcome.append(error)

            done.set()

        def begin() -> None:
            self._transport.spawn(write)

        self._transport.call_soon(begin)
        done.wait()

        if outcome[0] is not None:
            raise outcome[0]

    def _wait_for(self, piece: _Piece, deadline: float | None) -> None:
        assert piece.event is not None

        try:
            if not piece.event.wait(_remaining(deadline)) and piece.data:
                raise TimeoutError("The client of the WebSocket took too long.")
        except BaseException:
            # A timeout, or the greenlet was killed.
            if piece.data and not self._take_back(piece):
                self._on_failure()

            raise

        if piece.data:
            raise OutputEnded

    def _take_back(self, piece: _Piece) -> bool:
        """Remove a message that isn't out at all, so that nobody ever sees it.

        The other side's decompressor can't miss a message. TLS may have encrypted a
        part of it already, and needs to be given the same again.
        """
        with self._mutex:
            if piece.data and not piece.is_begun and self.compress is None:
                self._outbox.remove(piece)
                piece.data = _NOTHING

        return not piece.data

    # With the mutex held

    def _change_to(self, state: Output) -> None:
        self.state = state
        self.send_at_once = None

    def _take(self, data: bytes, messages: int, size: int) -> None:
        """Count frames that were offered, and keep what the kernel didn't take.

        :param size: how many bytes it took.
        """
        self.taken += size
        self.messages += messages
        self.bytes += len(data)

        if size < len(data):
            self._keep(data, size).is_offered = True
            self.outbox_size += len(data) - size

    def _put(self, data: bytes) -> bool:
        """Send or keep it, and say if the connection is still there."""
        size = 0

        try:
            if not self._outbox:
                size = self._transport.send(data)
                self.taken += size

            if size < len(data):
                self._keep(data, size)
        except OSError:
            self._end()
            return False

        return True

    def _keep(self, data: bytes, size: int = 0) -> _Piece:
        """Put what the kernel didn't take into the outbox.

        :param size: how many bytes it took.
        """
        rest = memoryview(data)[size:] if size else data
        # TLS may have encrypted what it couldn't send.
        piece = _Piece(rest, is_begun=size > 0)

        if self._outbox:
            self._outbox.append(piece)
        else:
            piece.is_begun |= self._transport.is_tls
            self._outbox = collections.deque((piece,))
            self.send_at_once = None
            self._transport.watch_writable(self._send_more)

        return piece

    def _send_outbox(self) -> None:
        """Give the kernel what it takes now.

        :raises OSError: if the connection is lost.
        """
        outbox = self._outbox

        while outbox:
            piece = outbox[0]
            piece.is_begun |= self._transport.is_tls
            size = self._transport.send(piece.data)

            if not size:
                return

            self.taken += size

            if piece.is_offered:
                self.outbox_size -= size

            if size < len(piece.data):
                piece.data = piece.data[size:]
                piece.is_begun = True
                continue

            piece.data = _NOTHING  # An empty slice would keep all of it in memory.
            outbox.popleft()

            if piece.event is not None:
                piece.event.set()

    def _clear(self) -> None:
        """The outbox is done with, sent or not."""
        if self._outbox is not _EMPTY:
            self._transport.unwatch_writable()

            for piece in self._outbox:
                if piece.event is not None:
                    piece.event.set()

            self._outbox = _EMPTY
            self._controls.clear()
            self.outbox_size = 0

            if self.state is Output.OPEN:
                self.send_at_once = self._transport.send_on_hub

    def _end(self) -> None:
        self._change_to(Output.ENDED)
        self._clear()

    def _end_stream(self) -> None:
        """Both sides have said Close, or the client may not say more: the server is
        the first to end the stream (RFC 6455 section 7.1.1)."""
        self._change_to(Output.ENDED)
        self._transport.shutdown(socket.SHUT_WR)

    def _take_callbacks(self) -> list[Callable[[], None]]:
        callbacks, self._room_callbacks = self._room_callbacks, []
        return callbacks

    # On the scheduler

    def _send_more(self) -> None:
        """The client has made room."""
        callbacks: list[Callable[[], None]] = []
        has_failed = False

        with self._mutex:
            if self.state is Output.ENDED:
                return

            try:
                self._send_outbox()
            except OSError:
                self._end()
                has_failed = True

            if not self._outbox:
                self._clear()
                callbacks = self._take_callbacks()

                if self.state is Output.ENDING:
                    self._end_stream()

        if has_failed:
            self._on_failure()

        for callback in callbacks:
            callback()


def offer_all(
    writers: Sequence[Writer], data: bytes, messages: int, limit: int
) -> list[tuple[int, Offer]]:
    """Offer the same frames to many connections of one scheduler.

    It does what :meth:`Writer.offer` does to each of them. Nearly all the time of
    a publication is spent here, so that most of them are served with no other call than
    that of their socket.

    :param writers: those of the connections.
    :return: the places in ``writers`` of those that didn't take the frames, and why.
    """
    size = len(data)
    refused: list[tuple[int, Offer]] = []

    for place, writer in enumerate(writers):
        send = writer.send_at_once

        if send is not None:
            try:
                taken = send(data)
            except OSError:  # Nothing is taken now, or ever: the offer finds that out.
                taken = 0

            if taken == size:
                writer.taken += size
                writer.messages += messages
                writer.bytes += size
                continue

            if taken:
                writer.take_rest(data, messages, taken)
                continue

        answer = writer.offer(data, messages, limit)

        if answer is not Offer.TAKEN:
            refused.append((place, answer))

    return refused


def _do_nothing() -> None:
    pass


def _remaining(deadline: float | None) -> float | None:
    """How long there is still to wait, in seconds."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
