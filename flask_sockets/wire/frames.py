"""The shape of WebSocket frames (RFC 6455 section 5.2): bytes in, bytes out.

Most traffic is whole, unfragmented, uncompressed messages. They are decoded and
encoded here, which costs half of what the library's engine takes for them.
"""

from __future__ import annotations

import io
import struct
import typing as t

try:
    from websockets.speedups import apply_mask
except ImportError:  # The pure wheel of websockets, without its C extension.
    from websockets.utils import apply_mask

from .text import Text

CONTINUATION = 0x00
TEXT = 0x01
BINARY = 0x02
CLOSE = 0x08
PING = 0x09
PONG = 0x0A

#: In the first byte: the message is compressed (RFC 7692 section 6).
RSV1 = 0x40

#: The first byte of a whole, uncompressed message: FIN set, no reserved bit.
WHOLE = (0x80 | TEXT, 0x80 | BINARY)

#: How long the header of a frame from a server may be, in bytes.
MAX_HEADER_SIZE = 10

#: The largest payload a control frame may have, in bytes (RFC 6455 section 5.5).
MAX_CONTROL_PAYLOAD = 125


#: The headers of frames from a server that are whole and short, by opcode and length.
#: Most frames are, and making a header takes longer than all else about them.
SHORT_HEADERS = [
    [bytes((0x80 | opcode, length)) for length in range(126)] for opcode in range(16)
]


class FrameHeader(t.NamedTuple):
    """What the first bytes of a frame say."""

    #: FIN, the reserved bits and the opcode.
    first_byte: int
    masked: bool
    #: Size of the header, mask included, in bytes.
    size: int
    #: Size of the payload as declared, in bytes.
    payload_length: int

    @property
    def opcode(self) -> int:
        return self.first_byte & 0x0F

    @property
    def is_compressed(self) -> bool:
        """Whether a compressed message begins here."""
        return bool(self.first_byte & RSV1)


def read_header(buffer: bytes | bytearray, start: int) -> FrameHeader | None:
    """Read the header of the frame that begins at ``start``.

    :return: ``None`` if the buffer doesn't hold all of the length yet. The mask
        may still be missing: a length that is too large is known without it.
    """
    available = len(buffer) - start

    if available < 2:
        return None

    first_byte = buffer[start]
    second_byte = buffer[start + 1]
    masked = second_byte >= 0x80
    length = second_byte & 0x7F
    size = 2

    if length == 126:
        if available < 4:
            return None

        length = int.from_bytes(buffer[start + 2 : start + 4], "big")
        size = 4
    elif length == 127:
        if available < 10:
            return None

        length = int.from_bytes(buffer[start + 2 : start + 10], "big")
        size = 10

    return FrameHeader(first_byte, masked, size + 4 if masked else size, length)


def read_message(
    buffer: bytes | bytearray, start: int, limit: int | None
) -> tuple[int, bytes, int] | None:
    """Read a message that is a single frame, if it begins at ``start``, is all there,
    and there is nothing else to be said about it.

    :param limit: the largest payload, in bytes.
    :return: the opcode, the payload, and where the next frame begins.
    """
    size = len(buffer)

    if size - start < 6 or buffer[start] not in WHOLE:
        return None

    length = buffer[start + 1] - 0x80  # Without the bit that says it is masked.
    begin = start + 6

    if length >= 126:
        begin += 2 if length == 126 else 8

        if size < begin:
            return None

        length = int.from_bytes(buffer[start + 2 : begin - 4], "big")

    end = begin + length

    if length < 0 or end > size or (limit is not None and length > limit):
        return None

    # RFC 6455 section 5.3.
    payload = apply_mask(buffer[begin:end], buffer[begin - 4 : begin])
    return buffer[start] & 0x0F, payload, end


def read_payload(buffer: bytes | bytearray, begin: int, end: int) -> bytes:
    """Read the payload between two places, which has its mask before it."""
    return apply_mask(buffer[begin:end], buffer[begin - 4 : begin])


def header(first_byte: int, length: int) -> bytes:
    """Make the header of an unmasked frame, as a server sends it.

    :param first_byte: FIN, the reserved bits and the opcode.
    :param length: of the payload, in bytes.
    """
    if length < 126:
        return bytes((first_byte, length))

    if length < 65536:
        return struct.pack("!BBH", first_byte, 126, length)

    return struct.pack("!BBQ", first_byte, 127, length)


def encode(opcode: int, payload: bytes) -> bytes:
    """Make an unmasked frame, as a server sends it, of a whole message."""
    length = len(payload)

    if length < 126:
        return SHORT_HEADERS[opcode][length] + payload

    return header(0x80 | opcode, length) + payload


class Fragments:
    """A message that comes in several frames (RFC 6455 section 5.4).

    It takes little more memory than the message itself, however small the fragments.
    """

    def __init__(self, opcode: int) -> None:
        self.count = 0
        #: In bytes, also of a text.
        self.size = 0
        self.is_complete = False
        self._payloads = io.BytesIO()
        self._text = Text() if opcode == TEXT else None

    def add(self, payload: bytes, is_last: bool) -> None:
        """Add what the next frame holds, when all before it is decoded."""
        self.count += 1
        self.size += len(payload)
        self.is_complete = is_last

        if self._text is None:
            self._payloads.write(payload)
        else:
            self._text.add(payload, is_last)

    @property
    def has_undecoded(self) -> bool:
        """Whether it is a text of which a part is still to be decoded."""
        return self._text is not None and self._text.has_undecoded

    def decode_some(self) -> None:
        """Decode a part of the text, so that others don't have to wait for all of it.

        What isn't UTF-8 is found in the frame where it is.

        :raises UnicodeDecodeError: if the text isn't UTF-8.
        """
        if self._text is not None:
            self._text.decode_some()

    def join(self) -> str | bytes:
        """The whole message."""
        return self._payloads.getvalue() if self._text is None else self._text.join()
