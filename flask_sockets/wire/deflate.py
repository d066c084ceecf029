"""Compression of messages: the extension permessage-deflate (RFC 7692)."""

from __future__ import annotations

import typing as t
import zlib

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, NegotiationError, ProtocolError
from websockets.extensions.permessage_deflate import (
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import CTRL_OPCODES
from websockets.server import ServerProtocol

if t.TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.extensions import Extension
    from websockets.frames import Frame
    from websockets.typing import ExtensionParameter

#: What may stand behind a deflate block that is marked as the last one: an empty
#: block, of which the sender leaves out all but the first byte.
_AFTER_LAST_BLOCK = (b"\x00\x00\x00\xff\xff", b"\x00\x00\xff\xff")


class Deflate(PerMessageDeflate):
    """The extension as the library has it, but a message may end the deflate stream.

    A client that can't flush its compressor does that with each message (RFC 7692
    section 7.2.3.4). zlib keeps whatever comes after the end, without inflating it.
    """

    def __init__(self, *args: t.Any) -> None:
        super().__init__(*args)
        #: Whether the client begins a new stream with each message.
        self.is_stream_per_message = self.remote_no_context_takeover
        self.remote_no_context_takeover = False  # Seen to below.

    def decode(self, frame: Frame, *, max_size: int | None = None) -> Frame:
        """Inflate a frame, if it is compressed.

        :raises websockets.exceptions.ProtocolError: if that isn't possible.
        """
        if frame.opcode in CTRL_OPCODES or not (frame.rsv1 or self.decode_cont_data):
            return frame

        if frame.rsv1 and self.is_stream_per_message:
            self.decoder = self._new_decoder()

        decoded = super().decode(frame, max_size=max_size)

        if self.decoder.eof:
            rest = self.decoder.unused_data

            if rest not in _AFTER_LAST_BLOCK and (
                frame.fin or rest not in (b"", b"\0")
            ):
                raise ProtocolError("data after the end of the deflate stream")

        if frame.fin and self.is_stream_per_message:
            del self.decoder  # Nothing is kept between messages.
        elif frame.fin and self.decoder.eof:
            self.decoder = self._new_decoder()

        return decoded

    def _new_decoder(self) -> t.Any:
        return zlib.decompressobj(wbits=-self.remote_max_window_bits)


class DeflateFactory(ServerPerMessageDeflateFactory):
    """Makes the extension, if the client offers it on terms that can be met."""

    def process_request_params(
        self,
        params: Sequence[ExtensionParameter],
        accepted_extensions: Sequence[Extension],
    ) -> tuple[list[ExtensionParameter], PerMessageDeflate]:
        # zlib has no such window to compress with, which the library's version 16
        # finds out too late to decline the offer.
        if ("server_max_window_bits", "8") in params:
            raise NegotiationError("The window is too small.")

        answer, agreed = super().process_request_params(params, accepted_extensions)
        return answer, Deflate(
            agreed.remote_no_context_takeover,
            agreed.local_no_context_takeover,
            agreed.remote_max_window_bits,
            agreed.local_max_window_bits,
            agreed.compress_settings,
        )


# A connection takes memory as long as it is open. By default, zlib compresses with
# 256 KiB and inflates with 44. A window of 4 KiB (12 bits) and small tables (level 5)
# make that 32 and 16, and compress messages of a few KiB as well. A client that
# doesn't let us choose its window may use all of 32 KiB (15 bits).
_FACTORY = DeflateFactory(
    server_max_window_bits=12,
    client_max_window_bits=12,
    compress_settings={"memLevel": 5},
)


class MalformedOffer(ValueError):
    """The client's ``Sec-WebSocket-Extensions`` header can't be read."""


def choose_compression(offers: str | None) -> tuple[str | None, list[Extension]]:
    """Choose the first offer of the client that can be met (RFC 7692 section 5).

    :param offers: the value of the client's ``Sec-WebSocket-Extensions`` header.
    :return: the header that answers it, and the extension for the engine.
    :raises MalformedOffer: if the client's header is malformed.
    """
    if not offers:
        return None, []

    headers = Headers({"Sec-WebSocket-Extensions": offers})

    try:
        return ServerProtocol(extensions=[_FACTORY]).process_extensions(headers)
    except InvalidHandshake as error:
        raise MalformedOffer(
            "The 'Sec-WebSocket-Extensions' header is malformed."
        ) from error
