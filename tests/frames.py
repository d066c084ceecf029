"""Frames made by hand, and frames read by hand (RFC 6455 section 5.2)."""

from __future__ import annotations

import struct
import typing as t

from websockets.utils import apply_mask

if t.TYPE_CHECKING:
    from collections.abc import Callable

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

MASK = b"\x37\xfa\x21\x3d"


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    masked: bool = True,
    length: int | None = None,
) -> bytes:
    """A frame as a client sends it, or sends it wrong.

    :param reserved: the three reserved bits, as a number.
    :param masked: ``False`` for a frame as the server sends it.
    :param length: what the header says instead of the truth.
    """
    size = len(payload) if length is None else length
    first = (0x80 if fin else 0) | reserved << 4 | opcode
    mask_bit = 0x80 if masked else 0
    if size < 126:
        header = bytes((first, mask_bit | size))
    elif size < 2**16:
        header = struct.pack("!BBH", first, mask_bit | 126, size)
    else:
        header = struct.pack("!BBQ", first, mask_bit | 127, size)
    if not masked:
        return header + payload
    return header + MASK + apply_mask(payload, MASK)


def close_frame(
    code: int | None = 1000, reason: str | bytes = b"", *, masked: bool = True
) -> bytes:
    """A Close frame, empty for the code ``None``.

    :param masked: ``False`` for a frame as the server sends it.
    """
    if isinstance(reason, str):
        reason = reason.encode()
    payload = b"" if code is None else struct.pack("!H", code) + reason
    return frame(CLOSE, payload, masked=masked)


class Frame(t.NamedTuple):
    """A frame as the server sent it."""

    #: With the reserved bits.
    opcode: int
    payload: bytes

    @property
    def close(self) -> tuple[int, str]:
        """What a Close frame says."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big"), self.payload[2:].decode()


def read_frame(read: Callable[[int], bytes]) -> Frame:
    """Read a frame of the server.

    :param read: reads so many bytes.
    """
    first, length = read(2)
    assert first & 0x80, "The server sent a fragment."
    assert not length & 0x80, "The server sent a mask."
    if length == 126:
        length = int.from_bytes(read(2), "big")
    elif length == 127:
        length = int.from_bytes(read(8), "big")
    return Frame(first & 0x7F, read(length))
