"""What goes through the channels of Redis: a small header, and the payload as it is.

.. code-block:: text

    byte 0   the version of this format, 1
    byte 1   the kind: 1 text, 2 binary, 3 JSON
    byte 2   the size of the sender in bytes, or 0
    byte 3   the size of the position in bytes, or 0
    then     the sender, the position and the payload, one after the other

A text is in UTF-8. So any program publishes "hello" to a plain topic with
``PUBLISH sockets:{chat/lobby}:live "\\x01\\x01\\x00\\x00hello"``.
"""

from __future__ import annotations

import dataclasses
import json
import re

from ..publication import Kind, Position, Publication

VERSION = 1

#: The size of what stands before the sender, in bytes.
HEADER_SIZE = 4


class MalformedMessage(ValueError):
    """Something came through a channel that doesn't have this format."""


def encode(publication: Publication) -> tuple[bytes, bytes]:
    """Encode a publication that has no position yet.

    :return: the header without the size of the position, and the sender. What knows
        the position puts it between the sender and the payload.
    """
    sender = publication.sender.encode()
    return bytes((VERSION, publication.kind, len(sender))), sender


def encode_plain(publication: Publication) -> bytes:
    """Encode a publication to a topic without a history."""
    head, sender = encode(publication)
    return b"".join((head, b"\0", sender, publication.payload))


def decode(topic: str, data: bytes) -> Publication:
    """Read what :func:`encode_plain`, or the script that publishes, has made.

    :raises MalformedMessage: if it is something else.
    """
    try:
        version, kind, sender_size, place_size = data[:HEADER_SIZE]

        if version != VERSION:
            raise ValueError(f"its version is {version}")

        place_at = HEADER_SIZE + sender_size
        payload_at = place_at + place_size

        if payload_at > len(data):
            raise ValueError("it is too short")

        sender = data[HEADER_SIZE:place_at].decode()
        place = None

        if place_size:
            place = Position.parse(data[place_at:payload_at].decode())

            if place is None:
                raise ValueError("its position is none")

        publication = Publication(topic, Kind(kind), data[payload_at:], sender, place)

        if publication.kind is not Kind.BINARY:
            publication.payload.decode()
    except ValueError as error:
        raise MalformedMessage(
            f"A message to the topic {topic!r} in Redis doesn't have the format of"
            f" Flask-Sockets: {error}."
        ) from error

    return publication


@dataclasses.dataclass(frozen=True)
class Disconnect:
    """Tells all processes to close the sockets of a topic."""

    topic: str
    code: int
    reason: str

    def encode(self) -> bytes:
        return json.dumps(dataclasses.asdict(self)).encode()


@dataclasses.dataclass(frozen=True)
class TellStats:
    """Asks all processes to tell what they have counted.

    Each puts its answer, JSON as well, at the end of a list.
    """

    #: What makes the key of the list unlike all others: hexadecimal digits.
    token: str

    def encode(self) -> bytes:
        return json.dumps({"stats": self.token}).encode()


def decode_order(data: bytes) -> Disconnect | TellStats:
    """Read what came through the control channel.

    :raises MalformedMessage: if it is no order.
    """
    try:
        values = json.loads(data)

        if "stats" in values:
            return TellStats(_check_token(values["stats"]))

        return Disconnect(
            str(values["topic"]), int(values["code"]), str(values["reason"])
        )
    except (ValueError, TypeError, KeyError) as error:
        raise MalformedMessage(
            "A message in the control channel of Redis doesn't have the format of"
            " Flask-Sockets."
        ) from error


def _check_token(token: str) -> str:
    """Let nobody choose a key that is used for something else."""
    if not re.fullmatch(r"[0-9a-f]{16}", token):
        raise ValueError(f"{token!r} is no token")

    return token
