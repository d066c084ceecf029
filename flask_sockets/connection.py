"""One WebSocket connection: the protocol engine on a transport, and its bounds.

Reading and writing have a lock each, so that one greenlet or thread may receive
while others send. The engine is used by both sides and has a lock of its own, held
for an instant only.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import socket
import time
import typing as t

from websockets.protocol import OPEN

from . import frames, keeper
from .exceptions import ConnectionClosed

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.frames import Frame
    from websockets.server import ServerProtocol

    from .transport import Transport

Message: t.TypeAlias = "str | bytes"

#: How long the client may take to answer a Close frame, in seconds.
CLOSE_TIMEOUT = 5.0

#: How long bytes that come after the end are still read, in seconds. Closing a
#: socket with unread bytes resets it, and the client may lose the Close frame.
LINGER = 1.0

#: How much a single read asks the kernel for, in bytes.
READ_SIZE = 65536

#: How many messages are read ahead of a handler that doesn't receive.
MAX_MESSAGES_AHEAD = 1000

#: How long a client that sends without pause may keep other greenlets from running,
#: in seconds.
TURN = 0.02

#: How many reads are made of what came before the connection was lost.
MAX_READS_AT_END = 100

_NOTHING = memoryview(b"")
_TEXT = frames.TEXT

#: The engine's own words are of interest only to those who ask for them.
engine_logger = logging.getLogger("flask_sockets.engine")
engine_logger.setLevel(logging.WARNING)


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What the app's configuration says about its WebSockets."""

    #: In bytes, of one message, after decompression. ``None`` sets no limit.
    max_message_size: int | None
    #: In seconds. ``None`` sends no pings.
    ping_interval: float | None
    #: In seconds. ``None`` waits forever.
    ping_timeout: float | None
    #: Of one message. ``None`` sets no limit.
    max_fragments: int | None
    #: In bytes, of messages that nobody has received yet.
    max_read_ahead: int


@dataclasses.dataclass(slots=True)
class Traffic:
    """What went one way: whole messages, and the bytes of their payloads."""

    messages: int = 0
    bytes: int = 0


class Connection:
    """A connection after the handshake."""

    def __init__(
        self, transport: Transport, engine: ServerProtocol, options: Options
    ) -> None:
        self.transport = transport
        self.engine = engine
        self.options = options

        #: Messages that nobody has received yet.
        self.messages: collections.deque[Message] = collections.deque()
        self.received = Traffic()
        self.sent = Traffic()

        #: Whether HTTP can't be spoken any more.
        self.has_begun = False
        #: Whether a Close frame was sent or received, or the connection was lost.
        self.is_closed = False
        #: The code and reason of the side that closed first.
        self.close_code: int | None = None
        self.close_reason = ""
        #: ``"client"`` or ``"server"``, once it is closed.
        self.closed_by: str | None = None
        self._close_deadline = 0.0

        # The read lock is held by whoever reads from the socket: the greenlet or
        # thread that receives or, for an instant, the keeper.
        self._read_lock = transport.new_lock()
        self._buffer: bytes | bytearray = b""
        # There was less to read than was asked for, so now there is nothing: waiting
        # is cheaper than asking once more.
        self._is_drained = False
        self._fragments: frames.Fragments | None = None
        self._is_at_end = False  # Nothing more can be read or written.
        self._is_finishing = False  # Nobody wants messages any more.
        self._was_served = False  # Someone got a message since the last look.
        self._is_patient = False  # That look was given up for it.
        self._was_heard = False
        self._turn_end: float | None = None  # Begins with the first read in a row.

        # The write lock is held by whoever writes to the socket.
        self._write_lock = transport.new_lock()
        self._engine_lock = transport.new_lock()
        self._unsent = _NOTHING  # What is left of something begun.
        self._control: dict[int, bytes] = {}  # Frames that are due, by opcode.
        self._is_close_begun = False  # The Close frame is in the stream.
        self._is_output_ended = False

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
        self._unsent = memoryview(handshake)
        if self.options.ping_interval is not None:
            self._next_ping = time.monotonic() + self.options.ping_interval
        keeper.keep(self)
        self._flush()

    @property
    def is_over(self) -> bool:
        """Whether no message can come any more."""
        return self._is_at_end or self.engine.eof_sent

    def _set_closed(self, code: int, reason: str, by: str) -> None:
        """Remember why the connection was closed. Whoever closes first says it.

        Called under the engine lock.
        """
        if not self.is_closed:
            self.close_code = code
            self.close_reason = reason
            self.closed_by = by
            self._close_deadline = time.monotonic() + CLOSE_TIMEOUT
            self.is_closed = True

    def _closed_error(self) -> ConnectionClosed:
        return ConnectionClosed(self.close_code or 1006, self.close_reason)

    def _lose(self) -> None:
        """The connection is gone, or has to go: nothing can be read or written.

        Whoever waits for the socket wakes up and finds that out.
        """
        self._engine_lock.acquire()
        try:
            self._set_closed(1006, "", "client")
        finally:
            self._engine_lock.release()
        self._is_at_end = True
        self.transport.shutdown()

    def _use_engine(self, action: Callable[[], None]) -> None:
        """Let the engine do something, and take up what it wants to send."""
        self._engine_lock.acquire()
        try:
            action()
            for data in self.engine.data_to_send():
                if data:
                    # A newer pong takes the place of one that isn't out yet (RFC
                    # 6455 section 5.5.3), so a client that sends pings but reads
                    # nothing makes us hold one of them at most.
                    self._control[data[0] & 0x0F] = data
            received, sent = self.engine.close_rcvd, self.engine.close_sent
            if received is not None:
                self._set_closed(int(received.code), received.reason, "client")
            elif sent is not None:
                self._set_closed(int(sent.code), sent.reason, "server")
        finally:
            self._engine_lock.release()

    # Reading

    def receive(self, deadline: float | None) -> Message | None:
        """Wait for a message. There can be one receiver at a time.

        :param deadline: in the terms of :func:`time.monotonic`.
        :return: ``None`` if the connection has ended.
        :raises TimeoutError: at the deadline.
        """
        if not self.messages:
            self._read_until(self._is_served, deadline)
            if not self.messages:
                return None
        self._was_served = True
        return self.messages.popleft()

    def _is_served(self) -> bool:
        return bool(self.messages) or self._is_at_end or self.engine.eof_sent

    def _read_until(
        self, is_done: Callable[[], bool], deadline: float | None, ahead: bool = False
    ) -> None:
        """Take in what comes.

        :param ahead: as for :meth:`_parse`.
        """
        _acquire(self._read_lock, deadline)
        try:
            # Whoever held the lock before may have read all there is to wait for.
            if self._buffer and not is_done():
                self._parse(ahead)
                self._flush()
            while not is_done():
                if (self._is_drained and deadline is None) or not self._read_now(ahead):
                    self.transport.wait_readable(_remaining(deadline))
                    self._is_drained = False
                    self._turn_end = None
                    continue
                self._flush()
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
                if self._is_at_end or not self._has_room() or not self._read_now(True):
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
            return False
        if not data:
            self._lose()
        elif not self.engine.eof_sent:
            self._was_heard = True
            # A read from TLS gives one record, however much more there is.
            self._is_drained = len(data) < READ_SIZE and not self.transport.is_tls
            if self._buffer:
                self._buffer += data
            else:
                self._buffer = data
            self._parse(ahead)
        return True

    def _parse(self, ahead: bool) -> None:
        """Take the whole frames from the buffer.

        The handler may still answer a message that has a Close, or an error, behind
        it. So whatever is no plain message waits until the messages before it are
        received.

        :param ahead: don't wait for that.
        """
        buffer = self._buffer
        limit = self.options.max_message_size
        start = 0
        while start < len(buffer):
            if self._fragments is None:
                whole = frames.read_message(buffer, start, limit)
                if whole is not None:
                    opcode, payload, end = whole
                    try:
                        message = payload.decode() if opcode == _TEXT else payload
                    except UnicodeDecodeError as error:
                        if self.messages and not ahead:
                            break
                        self._fail(1007, error.reason)
                        break
                    self._deliver(message, len(payload))
                    start = end
                    continue
            header = frames.read_header(buffer, start)
            if header is None or (
                self.messages and (not ahead or self._has_to_wait(header))
            ):
                break
            end = start + header.size + header.payload_length
            if not header.masked or self._is_too_large(header):
                # The engine refuses such a frame without seeing its payload.
                self._feed_engine(bytes(buffer[start : start + header.size]))
            elif (
                header.opcode >= frames.CLOSE
                and header.payload_length > frames.MAX_CONTROL_PAYLOAD
            ):
                # The engine would want the payload first.
                self._fail(1002, "control frame too long")
            elif end > len(buffer):
                break
            else:
                try:
                    self._feed_engine(bytes(buffer[start:end]))
                except UnicodeDecodeError as error:
                    self._fail(1007, error.reason)
            if self.engine.eof_sent:
                break
            start = end
        if self.engine.eof_sent:
            self._buffer = b""
            self._fragments = None
        elif start == len(buffer):
            self._buffer = b""
        elif isinstance(buffer, bytes):
            # More can be added to it without copying what is there.
            self._buffer = bytearray(buffer[start:])
        else:
            del buffer[:start]

    def _limit_for(self, first_byte: int) -> int | None:
        """How large a message may be that has a frame which begins like this.

        A frame that may be compressed gets more room, since compression makes small
        or random payloads larger. The message that comes out is measured again.
        """
        limit = self.options.max_message_size
        opcode = first_byte & 0x0F
        if limit is None or opcode >= frames.CLOSE:
            return None
        if self.engine.extensions and (
            first_byte & frames.RSV1 or opcode == frames.CONTINUATION
        ):
            limit += limit // 16 + 64
        return limit

    def _is_too_large(self, header: frames.FrameHeader) -> bool:
        limit = self._limit_for(header.first_byte)
        if limit is None:
            return False
        before = 0 if self._fragments is None else self._fragments.size
        return before + header.payload_length > limit

    def _has_to_wait(self, header: frames.FrameHeader) -> bool:
        """Whether a frame is not to be inflated yet, since enough was read ahead.

        What came compressed may be a thousand times as large as the bytes read.
        """
        return (
            bool(self.engine.extensions)
            and header.opcode < frames.CLOSE
            and not self._is_finishing
            and not self._has_room()
        )

    def _fail(self, code: int, reason: str) -> None:
        self._use_engine(lambda: self.engine.fail(code, reason))

    def _feed_engine(self, frame: bytes) -> None:
        """Give the engine one frame, and do what it makes of it.

        :raises UnicodeDecodeError: if it is text, but not UTF-8.
        """
        opcode = frame[0] & 0x0F
        # It would count a control frame towards the message around it. It inflates
        # a compressed frame up to this size, less what came before, and never more.
        self.engine.max_message_size = self._limit_for(frame[0])
        if opcode == frames.CLOSE:
            # A Close may come between the fragments of a message (RFC 6455 section
            # 5.4), which the engine takes for an error.
            self.engine.current_size = None
        self._use_engine(lambda: self.engine.receive_data(frame))
        for event in self.engine.events_received():
            self._take_frame(t.cast("Frame", event))
        # Answer each ping by itself where that is possible.
        self._flush()

    def _take_frame(self, frame: Frame) -> None:
        """Put the frames of a message together.

        :raises UnicodeDecodeError: if it is text, but not UTF-8.
        """
        if frame.opcode in (frames.TEXT, frames.BINARY):
            if frame.fin:
                data = bytes(frame.data)
                if not self._is_size_allowed(len(data)):
                    return
                text = frame.opcode == frames.TEXT
                self._deliver(data.decode() if text else data, len(data))
                return
            self._fragments = frames.Fragments(int(frame.opcode))
        elif frame.opcode != frames.CONTINUATION:
            return
        fragments = self._fragments
        assert fragments is not None  # The engine has seen to that.
        if not self._is_size_allowed(fragments.size + len(frame.data)):
            return
        fragments.add(bytes(frame.data), frame.fin)
        if frame.fin:
            self._fragments = None
            self._deliver(fragments.join(), fragments.size)
        elif (
            self.options.max_fragments is not None
            and fragments.count >= self.options.max_fragments
        ):
            self._fail(1008, "too many fragments")

    def _is_size_allowed(self, size: int) -> bool:
        """Whether a message of this size may be received. If not, fail."""
        limit = self.options.max_message_size
        if limit is None or size <= limit:
            return True
        self._fail(1009, f"message exceeds limit of {limit} bytes")
        return False

    def _deliver(self, message: Message, size: int) -> None:
        if self._is_finishing:
            return
        self.received.messages += 1
        self.received.bytes += size
        self.messages.append(message)

    # Writing

    def write(self, opcode: int, payload: bytes, deadline: float | None) -> None:
        """Send a whole message, and wait until the kernel has taken it.

        :param opcode: of a text or binary frame.
        :raises TimeoutError: at the deadline.
        :raises ConnectionClosed: if the connection is closed, or lost meanwhile.
        """
        _acquire(self._write_lock, deadline)
        try:
            if self._unsent:
                self._write_unsent(deadline)
            if self.is_closed:
                raise self._closed_error()
            if self.engine.extensions:
                frame = self._compress(opcode, payload)
            else:
                frame = frames.encode(opcode, payload)
            try:
                size = self.transport.send(frame)
            except OSError:
                self._lose_output()
                raise self._closed_error() from None
            if size < len(frame):
                self._write_rest(frame, size, deadline)
            self.sent.messages += 1
            self.sent.bytes += len(payload)
        finally:
            self._write_lock.release()
            if self._control:
                self._flush()

    def _write_rest(self, frame: bytes, size: int, deadline: float | None) -> None:
        """Wait for the kernel to take the rest of a frame it has taken a part of."""
        self._unsent = memoryview(frame)[size:]
        try:
            self._write_unsent(deadline)
        except ConnectionClosed:
            raise
        except BaseException:
            # A timeout, or the greenlet was killed.
            if len(self._unsent) == len(frame) and self._can_take_back():
                self._unsent = _NOTHING
            else:
                self._lose()
            raise

    def _compress(self, opcode: int, payload: bytes) -> bytes:
        self._engine_lock.acquire()
        try:
            if self.engine.state is not OPEN:
                raise self._closed_error()
            if opcode == frames.TEXT:
                self.engine.send_text(payload)
            else:
                self.engine.send_binary(payload)
            return b"".join(self.engine.data_to_send())
        finally:
            self._engine_lock.release()

    def _can_take_back(self) -> bool:
        """Whether another message may take the place of one that isn't out at all.

        The other side's decompressor can't miss a message. TLS may have encrypted it
        already, and needs to be given the same again.
        """
        return not self.engine.extensions and not self.transport.is_tls

    def _write_unsent(self, deadline: float | None) -> None:
        while not self._write_unsent_now():
            self.transport.wait_writable(_remaining(deadline))
            # The client takes in what it was sent, if only slowly. Its pong may be
            # a long way behind.
            self._was_heard = True

    def _write_unsent_now(self) -> bool:
        """Give the kernel what it takes now, and say if all of it is out."""
        while self._unsent:
            if self._is_at_end:
                raise self._closed_error()
            try:
                size = self.transport.send(self._unsent)
            except OSError:
                self._lose_output()
                raise self._closed_error() from None
            if size == len(self._unsent):
                break
            if not size:
                return False
            self._unsent = self._unsent[size:]
        self._unsent = _NOTHING  # An empty slice keeps all of it in memory.
        return True

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

    def send_control(self, action: Callable[[], None]) -> None:
        """Send a control frame, as soon as that is possible without waiting.

        :param action: makes the engine send it.
        :raises ConnectionClosed: if the connection is closed.
        """

        def act_if_open() -> None:
            if self.is_closed or self.engine.state is not OPEN:
                raise self._closed_error()
            action()

        self._use_engine(act_if_open)
        self._flush()

    def _flush(self) -> None:
        """Send what is due, as far as that is possible without waiting.

        Whoever holds the write lock calls this after they have released it. What the
        kernel doesn't take now is left to the keeper.
        """
        if not self._control and not self._unsent and not self._is_close_begun:
            return  # So it is nearly always.
        while self._is_output_due() and self._write_lock.acquire(False):
            try:
                is_all_out = self._flush_now()
            except ConnectionClosed:
                self._unsent = _NOTHING
                self._control.clear()
                self._is_output_ended = True
                return
            finally:
                self._write_lock.release()
            if not is_all_out:
                return

    def _is_output_due(self) -> bool:
        return bool(
            self._unsent
            or self._control
            or (
                self._is_close_begun
                and self.engine.eof_sent
                and not self._is_output_ended
            )
        )

    def _flush_now(self) -> bool:
        while self._write_unsent_now():
            if self._is_close_begun:
                # The Close frame is out: nothing may follow it.
                self._control.clear()
                if self.engine.eof_sent:
                    self._end_output()
            if not self._control:
                return True
            for opcode in (frames.PONG, frames.PING, frames.CLOSE):
                data = self._control.pop(opcode, None)
                if data is not None:
                    self._is_close_begun = opcode == frames.CLOSE
                    self._unsent = memoryview(data)
                    break
        return False

    # The end

    def go_away(self, code: int, reason: str) -> None:
        """Send a Close frame, unless the connection is closed, and don't wait."""

        def send_close() -> None:
            if not self.is_closed and self.engine.state is OPEN:
                self.engine.send_close(code, reason)

        self._use_engine(send_close)
        self._flush()

    def _end_output(self) -> None:
        """Both sides have said Close, or the client may not say more: the server is
        the first to end the stream (RFC 6455 section 7.1.1)."""
        self._is_output_ended = True
        self.transport.shutdown(socket.SHUT_WR)

    def finish(self, code: int, reason: str, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close, and wait until the client has closed too.

        Nothing is written to the socket ever after.

        :param timeout: seconds to wait at most.
        """
        deadline = time.monotonic() + timeout
        self._is_finishing = True
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
            # Others may be at the socket still: the keeper, or a greenlet that the
            # handler has left behind. The loss has woken them up.
            for lock in (self._read_lock, self._write_lock):
                if lock.acquire(timeout=LINGER):
                    lock.release()
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
        is_behind = self._is_patient or not self._has_room()
        if not self._is_patient:
            self._read_ahead()
        self._flush()
        if self.is_closed:
            if now >= self._close_deadline:
                self._lose()
        elif self._next_ping is not None:
            self._keep_alive(now, self._was_heard or is_behind)

    def _has_room(self) -> bool:
        return (
            len(self.messages) < MAX_MESSAGES_AHEAD
            and sum(map(len, self.messages.copy())) < self.options.max_read_ahead
        )

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
                self._use_engine(self._send_ping)
                self._flush()
        elif was_heard:
            # Anything counts: a pong may be stuck behind a large message.
            self._pong_deadline = None
            self._next_ping = now + self.options.ping_interval
        elif now >= self._pong_deadline:
            self._use_engine(self._give_up)
            self._flush()
            self._lose()

    def _send_ping(self) -> None:
        if self.engine.state is OPEN:
            self.engine.send_ping(b"")

    def _give_up(self) -> None:
        if self.engine.state is OPEN:
            reason = "keepalive ping timeout"
            self._set_closed(1006, reason, "server")
            self.engine.send_close(1011, reason)


def _acquire(lock: t.Any, deadline: float | None) -> None:
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
