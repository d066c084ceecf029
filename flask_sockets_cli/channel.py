"""How the processes talk: JSON objects, one a line, over a pair of sockets."""

from __future__ import annotations

import _socket
import contextlib
import json
import socket
import typing as t

Message = dict[str, t.Any]


class Channel:
    """One end of a conversation.

    :param sock: a connected stream socket. Its class decides whether waiting blocks the
        process or lets other greenlets run.
    """

    def __init__(self, sock: socket.socket | _socket.socket) -> None:
        self._socket = sock
        self._rest = b""

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, **message: t.Any) -> None:
        """Send one message. A missing other end is nobody's mistake: whoever reads
        from it learns that it is gone.
        """
        # The line break in front ends what a killed writer may have left half said.
        line = b"\n" + json.dumps(message).encode() + b"\n"

        with contextlib.suppress(OSError):
            self._socket.sendall(line)

    def receive(self) -> list[Message] | None:
        """Wait for messages; ``None`` when the other end is gone."""
        try:
            data = self._socket.recv(65536)
        except OSError:
            data = b""

        if not data:
            return None

        *lines, self._rest = (self._rest + data).split(b"\n")
        return [message for line in lines if (message := _parse(line)) is not None]

    def shut_down(self) -> None:
        """Let the other end know that nothing more comes, and end all waiting here."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def renewed(self) -> Channel:
        """Make a channel that takes the place of this one. Its socket is of the class
        that the standard library has by now.
        """
        channel = Channel(socket.socket(fileno=self._socket.detach()))
        channel._rest = self._rest
        return channel

    def close(self) -> None:
        self._socket.close()


def _parse(line: bytes) -> Message | None:
    try:
        message = json.loads(line)
    except ValueError:
        return None

    return message if isinstance(message, dict) else None
