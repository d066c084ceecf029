"""UTF-8 that comes in pieces, decoded a slice at a time.

Decoding 16 MiB at once would keep everybody else waiting for a tenth of a second.
"""

from __future__ import annotations

import codecs
import io

#: How much is decoded while others wait, in bytes. It takes less than a millisecond.
DECODED_AT_ONCE = 2**18

#: How many characters are worth a part of their own.
LARGE = 2**14


class Text:
    """A text message of which the bytes come one piece after the other.

    It takes little more memory than the text itself, however small the pieces.
    """

    def __init__(self) -> None:
        #: Whether there is something that :meth:`decode_some` has to decode.
        self.has_undecoded = False
        #: Whether the last piece has come.
        self.is_complete = False
        self._data = memoryview(b"")
        # What is decoded: large parts as they are, and behind them small ones together.
        self._parts: list[str] = []
        self._small = io.StringIO()

    def add(self, data: bytes, is_last: bool) -> None:
        """Add bytes, when those before them are decoded.

        :param is_last: whether no more will come.
        """
        # A character may begin in one piece and end in the next.
        rest = bytes(self._data)
        self._data = memoryview(rest + data if rest else data)
        self.is_complete = is_last
        self.has_undecoded = True

    def decode_some(self) -> None:
        """Decode the next slice.

        :raises UnicodeDecodeError: if it isn't UTF-8.
        """
        piece = self._data[:DECODED_AT_ONCE]
        is_rest = len(piece) == len(self._data)
        is_final = self.is_complete and is_rest
        text, size = codecs.utf_8_decode(piece, "strict", is_final)
        self._data = self._data[size:]
        self.has_undecoded = not is_rest

        if len(text) >= LARGE and not self._small.tell():
            self._parts.append(text)
            return

        self._small.write(text)

        if self._small.tell() >= LARGE:
            self._parts.append(self._small.getvalue())
            self._small = io.StringIO()

    def join(self) -> str:
        """All of it that is decoded."""
        return "".join([*self._parts, self._small.getvalue()])
