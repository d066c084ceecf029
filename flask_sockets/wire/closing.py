"""What may be said in a Close frame."""

from __future__ import annotations

from websockets.exceptions import ProtocolError
from websockets.frames import Close

from .frames import MAX_CONTROL_PAYLOAD


def check_close(code: int, reason: str) -> None:
    """Find out whether a Close frame can be made (RFC 6455 section 5.5.1).

    :raises ValueError: if the code can't be sent, or the reason is too long.
    """
    try:
        size = len(Close(code, reason).serialize())
    except ProtocolError:
        raise ValueError(
            f"{code!r} is no close code that can be sent. Use 1000, another code of"
            " RFC 6455 section 7.4.1, or one of your own from 4000 to 4999."
        ) from None
    if size > MAX_CONTROL_PAYLOAD:
        raise ValueError(
            "The reason of a close has at most"
            f" {MAX_CONTROL_PAYLOAD - 2} bytes, not {size - 2}."
        )
