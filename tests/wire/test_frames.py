from __future__ import annotations

import tracemalloc

import pytest

from flask_sockets.wire import frames

from .. import wire


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 100_000])
def test_every_size_of_header_is_written_and_read(size: int) -> None:
    """The length has 7 bits, 16 or 64 (RFC 6455 section 5.2)."""
    payload = bytes(size)
    data = frames.encode(frames.BINARY, payload)
    header = frames.read_header(bytearray(data), 0)
    assert header is not None
    assert header == (0x82, False, len(data) - size, size)
    assert header.opcode == frames.BINARY
    assert data[header.size :] == payload


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 65536])
def test_a_masked_payload_is_read_from_the_middle_of_a_buffer(size: int) -> None:
    """Frames are read where they are, with others before and behind them."""
    payload = bytes(n % 251 for n in range(size))
    buffer = bytearray(b"before" + wire.frame(wire.TEXT, payload) + b"behind")
    found = frames.read_message(buffer, len(b"before"), None)
    assert found is not None
    assert found[:2] == (frames.TEXT, payload)
    assert buffer[found[2] :] == b"behind"


@pytest.mark.parametrize("size", [5, 126, 65536])
def test_a_header_is_known_once_its_length_is_there(size: int) -> None:
    """A length that is too large is known before the mask has come."""
    data = wire.frame(wire.BINARY, length=size)
    length_end = len(data) - len(wire.MASK)
    for end in range(length_end):
        assert frames.read_header(bytearray(data[:end]), 0) is None
    header = frames.read_header(bytearray(data[:length_end]), 0)
    assert header == (0x82, True, len(data), size)


def test_fragments_may_cut_a_character() -> None:
    """Only the whole text has to be UTF-8, and nothing in it is translated."""
    text = "héllo \r\n 𝄞\r"
    fragments = frames.Fragments(frames.TEXT)
    data = text.encode()
    for position in range(len(data)):
        is_last = position == len(data) - 1
        fragments.add(data[position : position + 1], is_last)
        fragments.decode_some()
    assert fragments.join() == text
    assert (fragments.count, fragments.size) == (len(data), len(data))


def test_fragments_end_with_a_whole_character() -> None:
    """Half a character at the very end is an error, as is one in the middle."""
    for data, is_last in (("é".encode()[:1], True), (b"\xff", False)):
        fragments = frames.Fragments(frames.TEXT)
        fragments.add(data, is_last)
        with pytest.raises(UnicodeDecodeError):
            fragments.decode_some()


@pytest.mark.parametrize("opcode", [frames.TEXT, frames.BINARY])
def test_small_fragments_take_no_more_memory_than_large_ones(opcode: int) -> None:
    """Two bytes at a time, a list of them would take twenty times their size."""
    fragments = frames.Fragments(opcode)
    tracemalloc.start()
    try:
        for _ in range(50_000):
            fragments.add(b"ab", False)
            fragments.decode_some()
        fragments.add(b"", True)
        assert tracemalloc.get_traced_memory()[1] < 10 * 100_000
    finally:
        tracemalloc.stop()
    assert len(fragments.join()) == 100_000
