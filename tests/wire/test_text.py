"""Text that is decoded a slice at a time."""

from __future__ import annotations

import tracemalloc

import pytest

from flask_sockets.wire.protocol import Options, Progress, Protocol
from flask_sockets.wire.text import DECODED_AT_ONCE, Text

from . import CONTINUATION, TEXT, frame

#: No slice ends where a character ends.
LONG = "a" + "😀" * DECODED_AT_ONCE


def decode_all(text: Text) -> int:
    """Decode what there is, and count the slices."""
    count = 0
    while text.has_undecoded:
        text.decode_some()
        count += 1
    return count


def test_large_text_is_decoded_in_slices() -> None:
    text = Text()
    text.add(LONG.encode(), True)
    assert decode_all(text) == 5
    assert text.is_complete
    assert text.join() == LONG


def test_pieces_of_all_sizes_stay_in_order() -> None:
    """However they cut the characters."""
    data = (LONG + "é" * 1000 + LONG).encode()
    text = Text()
    position, size = 0, 1
    while position < len(data):
        text.add(data[position : position + size], position + size >= len(data))
        decode_all(text)
        position += size
        size = size * 3 % (2 * DECODED_AT_ONCE + 1)
    assert text.join() == LONG + "é" * 1000 + LONG


@pytest.mark.parametrize("end", [b"\xff", "😀".encode()[:3]], ids=["wrong", "cut"])
def test_what_is_wrong_is_found_behind_many_slices(end: bytes) -> None:
    text = Text()
    text.add(LONG.encode() + end, True)
    with pytest.raises(UnicodeDecodeError):
        decode_all(text)


def test_a_single_emoji_takes_no_memory_twice() -> None:
    """It makes each character of the whole text take four bytes."""
    size = 16 * DECODED_AT_ONCE
    data = b"a" * size + "😀".encode()
    tracemalloc.start()
    try:
        text = Text()
        text.add(data, True)
        decode_all(text)
        message = text.join()
        assert tracemalloc.get_traced_memory()[1] < 5.5 * size
    finally:
        tracemalloc.stop()
    assert len(message) == size + 1


OPTIONS = Options(None, None, None, None, 2**20)


@pytest.mark.parametrize(
    "frames",
    [
        [frame(TEXT, LONG.encode())],
        [
            frame(TEXT, LONG.encode()[:2], fin=False),
            frame(CONTINUATION, LONG.encode()[2:]),
        ],
    ],
    ids=["whole", "fragmented"],
)
def test_others_run_while_a_large_text_is_read(frames: list[bytes]) -> None:
    """What comes behind it waits, and isn't lost."""
    protocol = Protocol(OPTIONS)
    protocol.receive_data(b"".join([*frames, frame(TEXT, b"next")]))
    turns = 0
    while protocol.read() is Progress.MORE:
        assert protocol.has_unread
        turns += 1
    assert turns >= 3
    assert list(protocol.messages) == [LONG, "next"]
    assert not protocol.has_unread


def test_what_is_no_text_ends_the_connection_when_it_is_found() -> None:
    protocol = Protocol(OPTIONS)
    protocol.receive_data(frame(TEXT, LONG.encode() + b"\xff"))
    while (progress := protocol.read()) is Progress.MORE:
        pass
    assert progress is Progress.END
    protocol.read_end()
    assert protocol.closing.close is not None
    assert protocol.closing.close.code == 1007
    assert not protocol.messages
