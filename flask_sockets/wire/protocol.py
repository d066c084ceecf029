"""What the bytes of a WebSocket mean: bytes in, messages and frames to send out.

There are no sockets here, no waiting and no clock, and no locks either, though the
side that reads and the side that writes both use this. Reading plain messages
concerns one side only. All else may change what both may do, and has to be done one at
a time: the connection has a lock for that.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import typing as t

from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from ..exceptions import ConnectionClosed
from . import frames
from .writer import OutputEnded, Traffic

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.extensions import Extension
    from websockets.frames import Frame

Message: t.TypeAlias = "str | bytes"

#: How many messages are read ahead of a handler that doesn't receive.
MAX_MESSAGES_AHEAD = 1000

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


class Protocol:
    """The server's side of the protocol after the handshake (RFC 6455 section 5).

    Plain messages are read here. All other frames go through the engine of the
    library *websockets*, one whole frame at a time.

    :param extensions: those that were agreed on in the handshake.
    """

    def __init__(self, options: Options, extensions: Sequence[Extension] = ()) -> None:
        self.options = options
        self._engine = ServerProtocol(
            state=OPEN, max_size=options.max_message_size, logger=engine_logger
        )
        self._engine.extensions = list(extensions)
        #: Whether messages may be compressed.
        self.is_compressed = bool(extensions)

        self._buffer: bytes | bytearray = b""
        self._fragments: frames.Fragments | None = None
        #: Messages that nobody has received yet.
        self.messages: collections.deque[Message] = collections.deque()
        self.received = Traffic()
        #: Whether nobody wants messages any more.
        self.is_discarding = False

        #: Control frames that are to be sent next, in order.
        self.frames_due: list[bytes] = []

        #: Whether a Close frame was sent or received, or the connection was lost.
        self.is_closed = False
        #: The code and reason of the side that closed first.
        self.close_code: int | None = None
        self.close_reason = ""
        #: ``"client"`` or ``"server"``, once it is closed.
        self.closed_by: str | None = None
        #: Whether both sides have said Close, or the client may not say more.
        self.is_over = False

    # For the side that reads

    @property
    def has_unread(self) -> bool:
        """Whether there is something that isn't read, perhaps since it has to wait."""
        return bool(self._buffer)

    def receive_data(self, data: bytes) -> None:
        """Add what came from the network to what is to be read."""
        if self.is_over:
            return
        if self._buffer:
            if isinstance(self._buffer, bytes):
                # More can be added to it without copying what is there.
                self._buffer = bytearray(self._buffer)
            self._buffer += data
        else:
            self._buffer = data

    def read_messages(self) -> bool:
        """Read the plain messages that are next.

        :return: whether there is something else behind them: see :meth:`read_frame`.
        """
        buffer = self._buffer
        if self._fragments is not None:
            return bool(buffer)
        limit = self.options.max_message_size
        start, size = 0, len(buffer)
        while start < size:
            whole = frames.read_message(buffer, start, limit)
            if whole is None:
                break
            opcode, payload, end = whole
            try:
                message = payload.decode() if opcode == frames.TEXT else payload
            except UnicodeDecodeError:
                break  # Found once more when it is its turn.
            self._deliver(message, len(payload))
            start = end
        if start:
            self._drop(start)
        return start < size

    # For one at a time

    def read_frame(self, ahead: bool) -> bool:
        """Read the frame that is next, whatever it is.

        The handler may still answer a message that has a Close, or an error, behind
        it. So whatever is no plain message waits until the messages before it are
        received.

        :param ahead: don't wait for that.
        :return: ``False`` if it has to wait, or isn't all there.
        """
        header = frames.read_header(self._buffer, 0)
        if header is None or (
            self.messages and (not ahead or self._has_to_wait(header))
        ):
            return False
        end = header.size + header.payload_length
        if not header.masked or self._is_too_large(header):
            # The engine refuses such a frame without seeing its payload.
            self._feed_engine(bytes(self._buffer[: header.size]))
        elif (
            header.opcode >= frames.CLOSE
            and header.payload_length > frames.MAX_CONTROL_PAYLOAD
        ):
            # The engine would want the payload first.
            self._engine.fail(1002, "control frame too long")
        elif end > len(self._buffer):
            return False
        else:
            self._feed_engine(bytes(self._buffer[:end]))
        self._take_output()
        if self.is_over:
            self._buffer = b""
            self._fragments = None
        else:
            self._drop(end)
        return True

    def receive_eof(self) -> None:
        """The connection is lost."""
        self._set_closed(1006, "", "client")

    def compress(self, opcode: int, payload: bytes) -> bytes:
        """Make the frame of a whole message, compressed as agreed on.

        :raises OutputEnded: if the connection is closed.
        """
        if self.is_closed:
            raise OutputEnded
        if opcode == frames.TEXT:
            self._engine.send_text(payload)
        else:
            self._engine.send_binary(payload)
        return b"".join(self._engine.data_to_send())

    def send_control(self, opcode: int, payload: bytes) -> None:
        """Make a ping or pong due.

        :raises ConnectionClosed: if the connection is closed.
        """
        self._check_open()
        if opcode == frames.PING:
            self._engine.send_ping(payload)
        else:
            self._engine.send_pong(payload)
        self._take_output()

    def send_close(self, code: int, reason: str) -> None:
        """Make a Close frame due, unless the connection is closed."""
        if not self.is_closed:
            self._engine.send_close(code, reason)
            self._take_output()

    def give_up(self) -> None:
        """Close a connection whose client answers nothing, unless it is closed."""
        if not self.is_closed:
            reason = "keepalive ping timeout"
            self._set_closed(1006, reason, "server")
            self._engine.send_close(1011, reason)
            self._take_output()

    # For everyone

    def has_room(self) -> bool:
        """Whether more may be read ahead of the handler."""
        return (
            len(self.messages) < MAX_MESSAGES_AHEAD
            and sum(map(len, self.messages.copy())) < self.options.max_read_ahead
        )

    def closed_error(self) -> ConnectionClosed:
        return ConnectionClosed(self.close_code or 1006, self.close_reason)

    def _check_open(self) -> None:
        if self.is_closed:
            raise self.closed_error()

    def _set_closed(self, code: int, reason: str, by: str) -> None:
        """Remember why the connection was closed. Whoever closes first says it."""
        if not self.is_closed:
            self.close_code = code
            self.close_reason = reason
            self.closed_by = by
            self.is_closed = True

    # What is read

    def _drop(self, size: int) -> None:
        """Take what has been read from the buffer."""
        if size == len(self._buffer):
            self._buffer = b""
        elif isinstance(self._buffer, bytes):
            # A piece can be taken from it without copying the rest each time.
            self._buffer = bytearray(self._buffer[size:])
        else:
            del self._buffer[:size]

    def _limit_for(self, first_byte: int) -> int | None:
        """How large a message may be that has a frame which begins like this.

        A frame that may be compressed gets more room, since compression makes small
        or random payloads larger. The message that comes out is measured again.
        """
        limit = self.options.max_message_size
        opcode = first_byte & 0x0F
        if limit is None or opcode >= frames.CLOSE:
            return None
        if self.is_compressed and (
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
            self.is_compressed
            and header.opcode < frames.CLOSE
            and not self.is_discarding
            and not self.has_room()
        )

    def _feed_engine(self, frame: bytes) -> None:
        """Give the engine one frame, and do what it makes of it."""
        opcode = frame[0] & 0x0F
        # It would count a control frame towards the message around it. It inflates
        # a compressed frame up to this size, less what came before, and never more.
        self._engine.max_message_size = self._limit_for(frame[0])
        if opcode == frames.CLOSE:
            # A Close may come between the fragments of a message (RFC 6455 section
            # 5.4), which the engine takes for an error.
            self._engine.current_size = None
        self._engine.receive_data(frame)
        try:
            for event in self._engine.events_received():
                self._assemble(t.cast("Frame", event))
        except UnicodeDecodeError as error:
            self._engine.fail(1007, error.reason)

    def _assemble(self, frame: Frame) -> None:
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
            self._engine.fail(1008, "too many fragments")

    def _is_size_allowed(self, size: int) -> bool:
        """Whether a message of this size may be received. If not, fail."""
        limit = self.options.max_message_size
        if limit is None or size <= limit:
            return True
        self._engine.fail(1009, f"message exceeds limit of {limit} bytes")
        return False

    def _deliver(self, message: Message, size: int) -> None:
        if self.is_discarding:
            return
        received = self.received
        received.messages += 1
        received.bytes += size
        self.messages.append(message)

    # What is to be sent

    def _take_output(self) -> None:
        """Take up what the engine wants to send, and whether that closes."""
        self.frames_due += filter(None, self._engine.data_to_send())
        received, sent = self._engine.close_rcvd, self._engine.close_sent
        if received is not None:
            self._set_closed(int(received.code), received.reason, "client")
        elif sent is not None:
            self._set_closed(int(sent.code), sent.reason, "server")
        self.is_over = self._engine.eof_sent
