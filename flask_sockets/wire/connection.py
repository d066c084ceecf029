"""One WebSocket connection: the protocol on a transport, kept alive and ended in time.

One greenlet or thread may receive while others send. What both sides do to the
protocol has a lock of its own, held for an instant only.
"""

from __future__ import annotations

import time
import typing as t

from . import frames
from . import keepalive as keeper
from .protocol import Protocol
from .writer import Offer, OutputEnded, Writer

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from websockets.extensions import Extension

    from .protocol import Message, Options
    from .transport import Transport

    T = t.TypeVar("T")

#: How long the client may take to answer a Close frame, in seconds.
CLOSE_TIMEOUT = 5.0

#: How long bytes that come after the end are still read, in seconds. Closing a
#: socket with unread bytes resets it, and the client may lose the Close frame.
LINGER = 1.0

#: How much a single read asks the kernel for, in bytes.
READ_SIZE = 65536

#: How long a client that sends without pause may keep other greenlets from running,
#: in seconds.
TURN = 0.02

#: How many reads are made of what came before the connection was lost.
MAX_READS_AT_END = 100


class Connection:
    """A connection after the handshake."""

    def __init__(
        self,
        transport: Transport,
        options: Options,
        extensions: Sequence[Extension] = (),
    ) -> None:
        self.transport = transport
        self.options = options
        self.protocol = Protocol(options, extensions)
        # Held by whoever does something to the protocol that concerns both sides.
        self._protocol_lock = transport.new_mutex()

        #: Messages that nobody has received yet.
        self.messages = self.protocol.messages
        self.received = self.protocol.received

        #: Whether HTTP can't be spoken any more.
        self.has_begun = False
        self._close_deadline: float | None = None

        # The read lock is held by whoever reads from the socket: the greenlet or
        # thread that receives or, for an instant, the keeper.
        self._read_lock = transport.new_lock()
        # There was nothing to read, or less than was asked for, so that there is
        # nothing now: waiting is cheaper than asking once more.
        self._is_drained = False
        self._is_at_end = False  # Nothing more can be read or written.
        self._was_served = False  # Someone got a message since the last look.
        self._is_patient = False  # That look was given up for it.
        self._was_heard = False
        self._turn_end: float | None = None  # Begins with the first read in a row.

        self.writer = Writer(transport, self._lose_output)
        if self.protocol.is_compressed:
            self.writer.compress = self._compress
        #: What was sent.
        self.sent = self.writer.traffic
        self._progress = 0  # Of the writer, at the last look.
        # Taken, and called, once it is closed.
        self._closed_callbacks: list[Callable[[], None]] | None = []

        self._next_ping: float | None = None
        self._pong_deadline: float | None = None

    def begin(self, handshake: bytes) -> None:
        """Take the socket and send the handshake.

        :param handshake: the whole response, empty if the server has sent it.
        """
        self.has_begun = True
        try:
            self.transport.open()
        except OSError:
            self._lose()
            return
        self.writer.put(handshake)
        if self.options.ping_interval is not None:
            self._next_ping = time.monotonic() + self.options.ping_interval
        keeper.keep(self)

    @property
    def is_closed(self) -> bool:
        """Whether a Close frame was sent or received, or the connection was lost."""
        return self.protocol.is_closed

    @property
    def close_code(self) -> int | None:
        """The code of the side that closed first, once it is closed."""
        return self.protocol.close_code

    @property
    def close_reason(self) -> str:
        """The reason that side gave."""
        return self.protocol.close_reason

    @property
    def closed_by(self) -> str | None:
        """``"client"`` or ``"server"``, once it is closed."""
        return self.protocol.closed_by

    @property
    def is_over(self) -> bool:
        """Whether no message can come any more."""
        return self._is_at_end or self.protocol.is_over

    def _act(self, action: Callable[..., T], *args: t.Any) -> T:
        """Let the protocol do what concerns both sides, and send what is due then."""
        protocol = self.protocol
        due: list[bytes] = []
        self._protocol_lock.acquire()
        try:
            result = action(*args)
            if protocol.frames_due:
                due, protocol.frames_due = protocol.frames_due, due
            if protocol.is_closed and self._close_deadline is None:
                self._close_deadline = time.monotonic() + CLOSE_TIMEOUT
        finally:
            self._protocol_lock.release()
        for frame in due:
            self.writer.put_control(frame)
        if protocol.is_closed:
            if protocol.is_over:
                self.writer.end_behind_close()
            self._tell_closed()
        return result

    def _lose(self) -> None:
        """The connection is gone, or has to go: nothing can be read or written.

        Whoever waits for the socket wakes up and finds that out.
        """
        self._protocol_lock.acquire()
        try:
            self.protocol.receive_eof()
        finally:
            self._protocol_lock.release()
        self._is_at_end = True
        self.transport.shutdown()
        self.writer.end()
        self._tell_closed()

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call a function once the connection is closed, however that happens.

        It is called exactly once, on the connection's scheduler, and must not block.
        If the connection is closed already it is called soon.

        .. versionadded:: 1.0
        """
        self._protocol_lock.acquire()
        try:
            callbacks = self._closed_callbacks
            if callbacks is not None:
                callbacks.append(callback)
                return
        finally:
            self._protocol_lock.release()
        self.transport.call_soon(callback)

    def _tell_closed(self) -> None:
        if self._closed_callbacks is None:
            return
        self._protocol_lock.acquire()
        try:
            callbacks, self._closed_callbacks = self._closed_callbacks, None
        finally:
            self._protocol_lock.release()
        for callback in callbacks or ():
            self.transport.call_soon(callback)

    # Reading

    def receive(self, deadline: float | None) -> Message | None:
        """Wait for a message. There can be one receiver at a time.

        :param deadline: in the terms of :func:`time.monotonic`.
        :return: ``None`` if the connection has ended.
        :raises TimeoutError: at the deadline.
        """
        messages = self.messages
        if not messages:
            self._read_until(self._is_served, deadline)
            if not messages:
                return None
        self._was_served = True
        return messages.popleft()

    def _is_served(self) -> bool:
        return bool(self.messages) or self._is_at_end or self.protocol.is_over

    def _read_until(
        self, is_done: Callable[[], bool], deadline: float | None, ahead: bool = False
    ) -> None:
        """Take in what comes.

        :param ahead: as for :meth:`_parse`.
        """
        if not self._read_lock.acquire(False):
            _wait_for(self._read_lock, deadline)
        try:
            # Whoever held the lock before may have read all there is to wait for.
            if self.protocol.has_unread and not is_done():
                self._parse(ahead)
            if deadline is not None:
                self._is_drained = False  # Ask once before it is too late.
            while not is_done():
                if self._is_drained:
                    self.transport.wait_readable(_remaining(deadline))
                    self._turn_end = None
                self._read_now(ahead)
                if not self._is_drained or deadline is not None:
                    self._end_turn()
                    if not is_done():
                        _remaining(deadline)
        finally:
            self._read_lock.release()

    def _end_turn(self) -> None:
        """Let other greenlets run, if there was no need to wait for a long time."""
        now = time.monotonic()
        if self._turn_end is None:
            self._turn_end = now + TURN
        elif now >= self._turn_end:
            self.transport.sleep(0)
            self._turn_end = None

    def _read_ahead(self) -> None:
        """Take in what is there, unless someone is reading. Doesn't wait."""
        if not self._read_lock.acquire(False):
            return
        try:
            self._parse(ahead=True)
            # A client that sends without pause must not keep the others waiting.
            for _ in range(1 + self.options.max_read_ahead // READ_SIZE):
                if (
                    self._is_at_end
                    or not self.protocol.has_room()
                    or not self._read_now(True)
                ):
                    break
                if self._is_drained:
                    break
        finally:
            self._read_lock.release()

    def _read_now(self, ahead: bool) -> bool:
        """Take in what is there, without waiting, and say if there was anything.

        :param ahead: as for :meth:`_parse`.
        """
        if self._is_at_end:
            return True
        try:
            data = self.transport.receive(READ_SIZE)
        except OSError:
            data = b""
        if data is None:
            self._is_drained = True
            return False
        if not data:
            self._lose()
        elif not self.protocol.is_over:
            self._was_heard = True
            # A read from TLS gives one record, however much more there is.
            self._is_drained = len(data) < READ_SIZE and not self.transport.is_tls
            self.protocol.receive_data(data)
            self._parse(ahead)
        return True

    def _parse(self, ahead: bool) -> None:
        """Read what has come, and answer each ping by itself where that is possible.

        :param ahead: as for :meth:`.Protocol.read_frame`.
        """
        protocol = self.protocol
        while protocol.read_messages() and self._act(protocol.read_frame, ahead):
            pass

    # Writing

    def write(self, opcode: int, payload: bytes, deadline: float | None) -> None:
        """Send a whole message, and wait until the kernel has taken it.

        :param opcode: of a text or binary frame.
        :raises TimeoutError: at the deadline.
        :raises ConnectionClosed: if the connection is closed, or lost meanwhile.
        """
        try:
            self.writer.write(opcode, payload, deadline)
        except OutputEnded:
            raise self.protocol.closed_error() from None

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
        return self.writer.offer(data, messages, limit)

    @property
    def outbox_size(self) -> int:
        """How many bytes were offered that the kernel doesn't have yet.

        .. versionadded:: 1.0
        """
        return self.writer.outbox_size

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call a function once nothing waits for the client to read any more, or the
        connection is lost.

        It is called exactly once, on the connection's scheduler, and must not block.
        If nothing waits now it is called soon.

        .. versionadded:: 1.0
        """
        self.writer.when_room(callback)

    def _compress(self, opcode: int, payload: bytes) -> bytes:
        self._protocol_lock.acquire()
        try:
            return self.protocol.compress(opcode, payload)
        finally:
            self._protocol_lock.release()

    def _lose_output(self) -> None:
        """Nothing can be written, but what the client sent before may say why."""
        self.transport.shutdown()
        if not self._read_lock.acquire(False):
            return  # Whoever reads comes to the end by themselves.
        try:
            self._parse(ahead=True)
            for _ in range(MAX_READS_AT_END):
                if self._is_at_end or not self._read_now(ahead=True):
                    break
            self._lose()
        finally:
            self._read_lock.release()

    def send_control(self, opcode: int, payload: bytes) -> None:
        """Send a ping or pong, behind whatever waits for the client to read.

        :raises ConnectionClosed: if the connection is closed.
        """
        self._act(self.protocol.send_control, opcode, payload)

    # The end

    def go_away(self, code: int, reason: str) -> None:
        """Send a Close frame, unless the connection is closed, and don't wait."""
        self._act(self.protocol.send_close, code, reason)

    def finish(self, code: int, reason: str, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close, and wait until the client has closed too.

        Nothing is written to the socket ever after.

        :param timeout: seconds to wait at most.
        """
        deadline = time.monotonic() + timeout
        self.protocol.is_discarding = True
        try:
            self.go_away(code, reason)
            self._read_until(lambda: self.is_over, deadline, ahead=True)
            deadline = min(deadline, time.monotonic() + LINGER)
            self._read_until(lambda: self._is_at_end, deadline, ahead=True)
        except TimeoutError:
            pass  # The client had its time.
        finally:
            keeper.forget(self)
            self._lose()
            # Others may be at the socket still: the keeper, or a receiver that the
            # handler has left behind. The loss has woken them up.
            if self._read_lock.acquire(timeout=LINGER):
                self._read_lock.release()
            self.transport.close()

    # What the keeper does

    def look_after(self, now: float) -> None:
        """Do what has to be done whatever the handler does. Doesn't wait.

        :param now: what :func:`time.monotonic` says.
        """
        if self._is_at_end:
            return
        # A handler that has just received something may be about to answer it. But
        # pings have to be answered too, so that is true of every other look only.
        self._is_patient = self._was_served and not self._is_patient
        self._was_served = False
        # If the handler lets messages pile up, the pong is behind them.
        is_behind = self._is_patient or not self.protocol.has_room()
        if not self._is_patient:
            self._read_ahead()
        if self._progress != self.writer.progress:
            # The client takes in what it was sent, if only slowly. Its pong may be a
            # long way behind.
            self._progress = self.writer.progress
            self._was_heard = True
        if self._close_deadline is not None:
            if now >= self._close_deadline:
                self._lose()
        elif self._next_ping is not None:
            self._keep_alive(now, self._was_heard or is_behind)

    def _keep_alive(self, now: float, was_heard: bool) -> None:
        """Send pings, and give up a client that answers nothing at all."""
        assert self.options.ping_interval is not None
        if self._pong_deadline is None:
            assert self._next_ping is not None
            if now >= self._next_ping:
                self._was_heard = False
                if self.options.ping_timeout is None:
                    self._next_ping = now + self.options.ping_interval
                else:
                    self._pong_deadline = now + self.options.ping_timeout
                self._act(self._send_ping)
        elif was_heard:
            # Anything counts: a pong may be stuck behind a large message.
            self._pong_deadline = None
            self._next_ping = now + self.options.ping_interval
        elif now >= self._pong_deadline:
            self._act(self.protocol.give_up)
            self._lose()

    def _send_ping(self) -> None:
        if not self.protocol.is_closed:  # By another greenlet or thread, just now.
            self.protocol.send_control(frames.PING, b"")


def _wait_for(lock: t.Any, deadline: float | None) -> None:
    """Acquire a lock that isn't free."""
    if deadline is None:
        lock.acquire()
    elif not lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise TimeoutError("The WebSocket was in use for too long.")


def _remaining(deadline: float | None) -> float | None:
    """How long there is still to wait, in seconds."""
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("The client of the WebSocket took too long.")
    return remaining
