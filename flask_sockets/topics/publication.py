"""What is published: a message, the topic it goes to, and its position there."""

from __future__ import annotations

import base64
import dataclasses
import enum
import json
import re
import typing as t

from ..wire import frames

Message: t.TypeAlias = "str | bytes"


class Kind(enum.IntEnum):
    """What a client makes of a message."""

    #: A text message.
    TEXT = 1
    #: A binary message.
    BINARY = 2
    #: A text message that is known to be JSON.
    JSON = 3


# Written by us, sent back by clients: nothing else is taken for a position.
_POSITION = re.compile(r"([0-9A-Za-z]{1,40})-(0|[1-9][0-9]{0,18})")


class Position(t.NamedTuple):
    """The place of a publication in the history of its topic.

    Two positions can be compared only if they have the same epoch. A new one begins
    whenever the numbers of before mean nothing any more, such as after a restart.
    """

    epoch: str
    #: 1 for the first publication of the epoch, 0 for the time before it.
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def parse(cls, text: object) -> Position | None:
        """Read what a client has sent.

        :return: ``None`` if that is no position.
        """
        if isinstance(text, str) and (match := _POSITION.fullmatch(text)):
            return cls(match[1], int(match[2]))

        return None


@dataclasses.dataclass(frozen=True)
class Publication:
    """A message that was published to a topic.

    .. versionadded:: 1.0
    """

    topic: str
    kind: Kind
    #: The message as it goes over the wire; a text in UTF-8.
    payload: bytes
    #: The id of the socket that doesn't get this one, as it published it.
    sender: str = ""
    #: Only topics with a history have positions.
    place: Position | None = None

    @property
    def message(self) -> str | bytes:
        """The message: ``str`` for text, ``bytes`` for binary."""
        return self.payload if self.kind is Kind.BINARY else self.payload.decode()

    def json(self) -> t.Any:
        """The message, read as JSON.

        :raises ValueError: if the message isn't JSON.
        """
        return json.loads(self.payload)

    @property
    def position(self) -> str | None:
        """What a client comes back with to get what was published later.

        ``None`` if the topic has no history.
        """
        return None if self.place is None else str(self.place)

    def encode(self) -> bytes:
        """Make the frame that subscribers get."""
        opcode = frames.BINARY if self.kind is Kind.BINARY else frames.TEXT
        return frames.encode(opcode, self.payload)

    def encode_envelope(self) -> bytes:
        """Make the frame for those that get the topic and the position as well."""
        return frames.encode(frames.TEXT, self.envelope().encode())

    def envelope(self) -> str:
        """The topic, the position and the message, as JSON."""
        head = {"topic": self.topic, "position": self.position}

        if self.kind is Kind.BINARY:
            head["encoding"] = "base64"
            data = f'"{base64.b64encode(self.payload).decode()}"'
        elif self.kind is Kind.JSON:
            data = self.payload.decode()  # Is not encoded a second time.
        else:
            data = json.dumps(self.payload.decode())

        return f'{json.dumps(head)[:-1]}, "data": {data}}}'


def read_message(message: t.Any) -> tuple[Kind, bytes]:
    """Find out how a message is sent, before anybody gets it.

    :raises TypeError: if it is neither text nor bytes.
    :raises ValueError: if a text has no form in UTF-8.
    """
    if isinstance(message, str):
        return Kind.TEXT, message.encode()

    if isinstance(message, (bytes, bytearray, memoryview)):
        return Kind.BINARY, bytes(message)

    raise TypeError(
        f"A message is 'str' or 'bytes', not '{type(message).__name__}'."
        " Use 'publish_json()' for other values."
    )
