"""What the bytes of a WebSocket mean: bytes in, messages and pongs out.

There are no sockets here, no waiting and no clock, and no locks either, though the
side that reads and the side that writes both use this. Messages concern one side only.
Reading and writing them is done with as little ado as possible. What closes the
connection concerns both sides, and is in :mod:`.closing`.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing as t

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.frames import Frame, Opcode

from . import frames
from .closing import Closing
from .text import DECODED_AT_ONCE

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from websockets.extensions import Extension

    from .rate import Rate

Message: t.TypeAlias = "str | bytes"

#: How many messages are read ahead of a handler that doesn't receive.
MAX_MESSAGES_AHEAD = 1000

#: How many frames are read before others may run.
FRAMES_AT_ONCE = 256

#: How much is inflated while others wait, in bytes. It takes a few milliseconds.
INFLATED_AT_ONCE = 2**20

#: No deflate stream grows more than this many times (https://zlib.net/zlib_tech.html).
_MAX_GROWTH = 1032


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
    #: How many messages a client may send in a time. ``None`` sets no limit.
    message_rate: Rate | None = None
    #: In seconds without any message. ``None`` waits forever.
    idle_timeout: float | None = None


@dataclasses.dataclass(slots=True)
class Traffic:
    """What went one way: whole messages, and the bytes of their payloads."""

    messages: int = 0
    bytes: int = 0


class Progress(enum.Enum):
    """Why no more frames were read."""

    #: The next one isn't all there yet.
    DRAINED = enum.auto()
    #: Others may run now. There is more.
    MORE = enum.auto()
    #: The messages before it have to be received first.
    WAITING = enum.auto()
    #: What comes next closes the connection: see :meth:`Protocol.read_end`.
    END = enum.auto()


class Protocol:
    """The server's side of the protocol after the handshake (RFC 6455 section 5).

    :param extensions: those that were agreed on in the handshake.
    """

    def __init__(self, options: Options, extensions: Sequence[Extension] = ()) -> None:
        self.options = options
        #: How the connection closes.
        self.closing = Closing()
        self._extension = extensions[0] if extensions else None
        #: Whether messages may be compressed.
        self.is_compressed = bool(extensions)

        self._buffer: bytes | bytearray = b""
        self._fragments: frames.Fragments | None = None
        # Whether the message that comes in fragments is compressed.
        self._is_inflating = False
        # What is wrong with the next frame: a close code and a reason.
        self._violation: tuple[int, str] | None = None
        #: Messages that nobody has received yet, the first one first. They are few: an
        #: empty deque takes ten times the memory of an empty list.
        self.messages: list[Message] = []
        self.received = Traffic()
        # How much was inflated since the last reading began, in bytes.
        self._inflated = 0
        #: How many whole frames were read.
        self.frames_read = 0
        #: Whether nobody wants messages any more.
        self.is_discarding = False
        #: Calls a function that takes long, and may let others run meanwhile.
        self.run_aside: Callable[[Callable[[], Frame]], Frame] = lambda call: call()

        #: The frames that answer pings, until they are taken.
        self.pongs: list[bytes] = []
        #: Whether it was closed since a message was larger than the limit.
        self.is_limit_exceeded = False

    # Messages, for the side that reads

    @property
    def has_unread(self) -> bool:
        """Whether there is something that isn't read, perhaps since it has to wait."""
        return bool(self._buffer) or self._is_decoding

    @property
    def _is_decoding(self) -> bool:
        """Whether the text of the last frame isn't decoded yet."""
        return self._fragments is not None and self._fragments.has_undecoded

    def receive_data(self, data: bytes) -> None:
        """Add what came from the network to what is to be read."""
        if self.closing.is_over:
            return

        if self._buffer:
            if isinstance(self._buffer, bytes):
                # More can be added to it without copying what is there.
                self._buffer = bytearray(self._buffer)

            self._buffer += data
        else:
            self._buffer = data

    def read_one(self, data: bytes) -> Message | None:
        """Read a message that is all there is to read.

        It is the same as adding the data, reading, and taking the message, but faster.

        :param data: what came from the network.
        :return: ``None`` if it is anything else. The data is added all the same.
        """
        if self._fragments is None and not (
            self._buffer or self.is_discarding or self.closing.is_over
        ):
            try:
                whole = frames.read_message(data, 0, self.options.max_message_size)

                if whole is not None and whole[2] == len(data):
                    opcode, payload, _ = whole
                    message = payload.decode() if opcode == frames.TEXT else payload
                    received = self.received
                    received.messages += 1
                    received.bytes += len(payload)
                    self.frames_read += 1
                    return message
            except UnicodeDecodeError:
                pass  # Found once more when the data is read.

        self.receive_data(data)
        return None

    def read(self, ahead: bool = False) -> Progress:
        """Read the frames that are next.

        The handler may still answer a message that has a Close, or an error, behind
        it. So these wait until the messages before them are received. What came
        compressed waits as well: it may be a thousand times as large as the bytes.

        :param ahead: don't wait for that. What is compressed is inflated as long as
            there is room.
        """
        if self._violation is not None:
            return self._wait_or_end(ahead)

        buffer = self._buffer
        start, size = 0, len(buffer)
        limit = self.options.max_message_size
        progress = Progress.DRAINED
        messages, received = self.messages, self.received
        count = 0
        self._inflated = 0

        try:
            if self._is_decoding:
                self._assemble()

                if self._is_decoding:
                    return Progress.MORE

            while start < size:
                if count == FRAMES_AT_ONCE:
                    progress = Progress.MORE
                    break

                whole = None

                if self._fragments is None:
                    whole = frames.read_message(buffer, start, limit)

                if whole is not None:
                    opcode, payload, end = whole

                    if len(payload) <= DECODED_AT_ONCE:
                        # Most messages end here, without another call: there may be
                        # many small ones.
                        message = payload.decode() if opcode == frames.TEXT else payload

                        if not self.is_discarding:
                            received.messages += 1
                            received.bytes += len(payload)
                            messages.append(message)

                        start = end
                        count += 1
                        continue

                    self._deliver_whole(opcode, payload)
                    start = end
                else:
                    header = frames.read_header(buffer, start)

                    if header is None:
                        break

                    outcome = self._read_other(header, buffer, start, ahead)

                    if outcome is not None:
                        progress = outcome
                        break

                    start += header.size + header.payload_length

                count += 1
                has_inflated_enough = self._inflated >= INFLATED_AT_ONCE

                if self._is_decoding or (has_inflated_enough and start < size):
                    progress = Progress.MORE
                    break
        except UnicodeDecodeError as error:
            progress = self._violate(1007, error.reason, ahead)

        self.frames_read += count

        if start:
            self._drop(start)

        return progress

    def compress(self, opcode: int, payload: bytes) -> bytes:
        """Make the frame of a whole message, compressed as agreed on.

        For the side that writes. Each message depends on those before it.
        """
        assert self._extension is not None
        frame = self._extension.encode(Frame(Opcode(opcode), payload))
        first_byte = 0x80 | opcode | (frames.RSV1 if frame.rsv1 else 0)
        return frames.header(first_byte, len(frame.data)) + frame.data

    def read_end(self) -> None:
        """Read the frame that closes the connection, after :meth:`read` said so.

        This is for one at a time, as all that closes the connection.
        """
        violation, self._violation = self._violation, None
        closing = self.closing

        if closing.is_over:
            return

        if violation is not None:
            closing.fail(*violation)
        else:
            header = frames.read_header(self._buffer, 0)
            assert header is not None
            end = header.size + header.payload_length
            closing.read_close(bytes(self._buffer[:end]))
            self._drop(end)

        if closing.is_over:
            self._buffer = b""
            self._fragments = None

    def has_room(self) -> bool:
        """Whether more may be read ahead of the handler."""
        messages = self.messages
        return not messages or (
            len(messages) < MAX_MESSAGES_AHEAD
            # What they take in memory: a text with a single emoji takes four bytes for
            # each character.
            and sum(map(sys.getsizeof, messages.copy())) < self.options.max_read_ahead
        )

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

    def _violate(self, code: int, reason: str, ahead: bool) -> Progress:
        """The next frame is not what the protocol allows."""
        self._violation = code, reason
        return self._wait_or_end(ahead)

    def _wait_or_end(self, ahead: bool) -> Progress:
        """The next frame closes the connection, when it is its turn."""
        return Progress.WAITING if self.messages and not ahead else Progress.END

    def _read_other(
        self,
        header: frames.FrameHeader,
        buffer: bytes | bytearray,
        start: int,
        ahead: bool,
    ) -> Progress | None:
        """Read a frame that is no plain message.

        :return: ``None`` if it is read, or why it isn't.
        :raises UnicodeDecodeError: if it is text, but not UTF-8.
        """
        wrong = self._find_violation(header)

        if wrong is not None:
            return self._violate(*wrong, ahead)

        begin = start + header.size
        end = begin + header.payload_length

        if end > len(buffer):
            return Progress.DRAINED

        opcode = header.opcode

        if opcode == frames.CLOSE:
            return self._wait_or_end(ahead)

        has_to_wait = self.messages and not (
            ahead and (self.is_discarding or self.has_room())
        )

        if has_to_wait and self._is_compressed(header):
            return Progress.WAITING

        payload = frames.read_payload(buffer, begin, end)

        if opcode == frames.PING:
            self.pongs.append(frames.encode(frames.PONG, payload))
            return None

        if opcode == frames.PONG:
            return None

        return self._read_data(header, payload, ahead)

    def _find_violation(self, header: frames.FrameHeader) -> tuple[int, str] | None:
        """What the header of a frame shows to be wrong, without its payload.

        :return: the close code (RFC 6455 section 7.4.1) and a reason.
        """
        first_byte, opcode = header.first_byte, header.opcode
        reserved = first_byte & 0x70

        if opcode >= frames.CLOSE:
            if opcode > frames.PONG:
                return 1002, f"invalid opcode: 0x{opcode:02x}"

            if not first_byte & 0x80:
                return 1002, "fragmented control frame"

            if header.payload_length > frames.MAX_CONTROL_PAYLOAD:
                return 1002, "control frame too long"
        elif opcode > frames.BINARY:
            return 1002, f"invalid opcode: 0x{opcode:02x}"
        elif opcode == frames.CONTINUATION:
            if self._fragments is None:
                return 1002, "unexpected continuation frame"
        elif self._fragments is not None:
            return 1002, "expected a continuation frame"
        elif reserved == frames.RSV1 and self.is_compressed:
            reserved = 0

        if reserved:
            return 1002, "reserved bits must be 0"

        if not header.masked:
            return 1002, "incorrect masking"

        limit = self._limit_for(header)

        if limit is not None:
            before = 0 if self._fragments is None else self._fragments.size

            if before + header.payload_length > limit:
                return self._too_large()

        return None

    def _is_compressed(self, header: frames.FrameHeader) -> bool:
        """Whether the payload of a frame has to be inflated."""
        if header.opcode == frames.CONTINUATION:
            return self._is_inflating

        return header.is_compressed

    def _limit_for(self, header: frames.FrameHeader) -> int | None:
        """How large a message may be that has a frame which begins like this.

        A frame that may be compressed gets more room, since compression makes small
        or random payloads larger. The message that comes out is measured again.
        """
        limit = self.options.max_message_size

        if limit is None or header.opcode >= frames.CLOSE:
            return None

        if self._is_compressed(header):
            limit += limit // 16 + 64

        return limit

    def _too_large(self) -> tuple[int, str]:
        limit = self.options.max_message_size
        self.is_limit_exceeded = True
        return 1009, f"message exceeds limit of {limit} bytes"

    def _read_data(
        self, header: frames.FrameHeader, payload: bytes, ahead: bool
    ) -> Progress | None:
        """Put the frames of a message together."""
        opcode, is_last = header.opcode, bool(header.first_byte & 0x80)

        if opcode != frames.CONTINUATION:
            self._is_inflating = header.is_compressed

        if self._is_inflating:
            try:
                payload = self._inflate(opcode, payload, is_last)
            except PayloadTooBig:
                return self._violate(*self._too_large(), ahead=True)
            except ProtocolError as error:
                return self._violate(1002, str(error), ahead=True)

        before = 0 if self._fragments is None else self._fragments.size
        limit = self.options.max_message_size

        if limit is not None and before + len(payload) > limit:
            return self._violate(*self._too_large(), ahead=True)

        if opcode != frames.CONTINUATION:
            if is_last:
                self._deliver_whole(opcode, payload)
                return None

            self._fragments = frames.Fragments(opcode)

        fragments = self._fragments
        assert fragments is not None  # Or it would have been a violation.
        fragments.add(payload, is_last)
        maximum = self.options.max_fragments

        if not is_last and maximum is not None and fragments.count >= maximum:
            return self._violate(1008, "too many fragments", ahead=True)

        self._assemble()
        return None

    def _assemble(self) -> None:
        """Decode a part of what has come, and deliver the message if that was all."""
        fragments = self._fragments
        assert fragments is not None
        fragments.decode_some()

        if fragments.is_complete and not fragments.has_undecoded:
            self._fragments = None
            self._deliver(fragments.join(), fragments.size)

    def _inflate(self, opcode: int, payload: bytes, is_last: bool) -> bytes:
        """Inflate a frame, up to the limit of a message and never more.

        :raises websockets.exceptions.ProtocolError: if that isn't possible.
        """
        extension = self._extension
        assert extension is not None
        first = opcode != frames.CONTINUATION
        frame = Frame(Opcode(opcode), payload, fin=is_last, rsv1=first)
        room = self.options.max_message_size

        if room is not None and self._fragments is not None:
            room -= self._fragments.size

        def decode() -> Frame:
            return extension.decode(frame, max_size=room)

        most = len(payload) * _MAX_GROWTH

        if min(most, most if room is None else room) > INFLATED_AT_ONCE:
            return bytes(self.run_aside(decode).data)

        inflated = bytes(decode().data)
        self._inflated += len(inflated)
        return inflated

    def _deliver_whole(self, opcode: int, payload: bytes) -> None:
        """Deliver a message that came in a single frame, or begin to decode it."""
        if opcode != frames.TEXT:
            self._deliver(payload, len(payload))
        elif len(payload) <= DECODED_AT_ONCE:
            self._deliver(payload.decode(), len(payload))
        else:
            self._fragments = frames.Fragments(opcode)
            self._fragments.add(payload, is_last=True)

    def _deliver(self, message: Message, size: int) -> None:
        if self.is_discarding:
            return

        received = self.received
        received.messages += 1
        received.bytes += size
        self.messages.append(message)
