"""One publisher and many subscribers, which cost less than any server.

The publisher sends some messages at once, waits until every subscriber has got all of
them, and sends the next ones. What arrives is looked at once, and counted by its length
from then on.

Nobody waits for a subscriber but for the one who was the last to get the messages
before: when that one has them, so have nearly all others. So a server that sends wakes
up no client, no more than if the clients were on other machines.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
import typing as t

from load import client_frame, handshake, payload_of, server_frame

TEXT = 1
#: Seconds within which something has to arrive.
PATIENCE = 30.0
#: Seconds after which the others are looked at, if the last one still waits.
TURN = 0.1
#: Bytes that the kernel keeps of a message until they are taken.
BUFFER = 2**20


class Protocol(t.NamedTuple):
    """What clients say, and hear, to subscribe and to publish.

    A client says and hears in turns, after the handshake. The last thing that a
    subscriber hears is that it is subscribed.
    """

    subscribe_target: str
    publish_target: str
    subscribing: tuple[tuple[str, str], ...]
    connecting: tuple[tuple[str, str], ...]
    published: t.Callable[[str], str]
    delivered: t.Callable[[str], str]


def packet(event: str) -> t.Callable[[str], str]:
    """Socket.IO's packet of an event with one argument."""
    return lambda data: "42" + json.dumps([event, data], separators=(",", ":"))


SOCKETIO_TARGET = "/socket.io/?EIO=4&transport=websocket"

PLAIN = Protocol("/subscribe", "/publish", (("", "ready"),), (), str, str)
SOCKETIO = Protocol(
    SOCKETIO_TARGET,
    SOCKETIO_TARGET,
    (("", "0{"), ("40", "40{"), ('42["subscribe"]', '42["ready"]')),
    (("", "0{"), ("40", "40{")),
    packet("publish"),
    packet("m"),
)


class Delivered(t.NamedTuple):
    """What became of the messages of one run."""

    #: How many subscribers got one message, summed over all messages.
    deliveries: int
    #: Seconds from publishing messages until the last subscriber had the last of them.
    latencies: list[float]


class Audience:
    """Subscribers, shared out evenly among servers, and a publisher at the first."""

    def __init__(self, ports: t.Sequence[int], protocol: Protocol) -> None:
        self._ports = ports
        self._protocol = protocol
        self._buffer = bytearray(BUFFER)
        #: Whoever was the last to get the last message stands at the end.
        self._subscribers: list[socket.socket] = []
        self._publisher = open_one(
            ports[0], protocol.publish_target, protocol.connecting
        )
        # The kernel takes all that is published at once, whatever the server does.
        self._publisher.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)

    def grow(self, count: int) -> None:
        """Subscribe until there are so many."""
        protocol = self._protocol
        while len(self._subscribers) < count:
            port = self._ports[len(self._subscribers) % len(self._ports)]
            sock = open_one(port, protocol.subscribe_target, protocol.subscribing)
            # The kernel's own timeout: with one of Python's a socket never blocks.
            turn = struct.pack("ll", 0, int(TURN * 1e6))
            sock.settimeout(None)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, turn)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            self._subscribers.append(sock)

    def check(self, size: int) -> None:
        """Publish one message, and look at what every subscriber gets."""
        published, delivered = self._frames(size)
        self._publisher.sendall(published)
        for sock in self._subscribers:
            got = b""
            deadline = time.monotonic() + PATIENCE
            while len(got) < len(delivered):
                with contextlib.suppress(BlockingIOError):
                    got += sock.recv(len(delivered) - len(got))
                if time.monotonic() > deadline:
                    raise TimeoutError(f"Nothing was delivered for {PATIENCE:g} s.")
            if got != delivered:
                raise ValueError(f"A subscriber got {got[:100]!r}.")

    def run(self, size: int, in_flight: int, seconds: float) -> Delivered:
        published, delivered = self._frames(size)
        batch, size = published * in_flight, len(delivered) * in_flight
        latencies: list[float] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            start = time.perf_counter()
            self._publisher.sendall(batch)
            latencies.append(self._wait(size) - start)
        deliveries = len(latencies) * in_flight * len(self._subscribers)
        return Delivered(deliveries, latencies)

    def _wait(self, size: int) -> float:
        """Take so many bytes from every subscriber. Return when the last one had them,
        in seconds of ``time.perf_counter``.
        """
        behind = [(sock, size) for sock in self._subscribers]
        deadline = time.perf_counter() + PATIENCE
        while True:
            last, left = behind.pop()
            left -= self._take(last, left, socket.MSG_WAITALL)
            now = time.perf_counter()
            behind = [
                (sock, rest)
                for sock, left_of_it in behind
                if (rest := left_of_it - self._take(sock, left_of_it))
            ]
            if left:
                behind.append((last, left))
            if not behind:
                break
            if now > deadline:
                raise TimeoutError(f"Not all was delivered within {PATIENCE:g} s.")
        if self._subscribers[-1] is not last:
            self._subscribers.remove(last)
            self._subscribers.append(last)
        return now

    def _take(
        self, sock: socket.socket, size: int, flag: int = socket.MSG_DONTWAIT
    ) -> int:
        """Take up to so many bytes. Return how many there were."""
        try:
            # Nobody needs the bytes, so MSG_TRUNC has the kernel drop them uncopied.
            got = sock.recv_into(self._buffer, size, socket.MSG_TRUNC | flag)
        except BlockingIOError:
            return 0
        if not got:
            raise ConnectionError("The server closed the connection.")
        return got

    def _frames(self, size: int) -> tuple[bytes, bytes]:
        text = payload_of(size).decode()
        published = self._protocol.published(text).encode()
        delivered = self._protocol.delivered(text).encode()
        return client_frame(TEXT, published), server_frame(TEXT, delivered)

    def close(self) -> None:
        self._publisher.close()
        for sock in self._subscribers:
            sock.close()


def open_one(
    port: int, target: str, dialogue: tuple[tuple[str, str], ...]
) -> socket.socket:
    """Open a WebSocket, and have a dialogue of what is said and what is heard."""
    sock = handshake(port, target)
    sock.settimeout(PATIENCE)
    for said, heard in dialogue:
        if said:
            sock.sendall(client_frame(TEXT, said.encode()))
        data = b""
        while heard.encode() not in data:
            if not (part := sock.recv(4096)):
                raise ConnectionError(f"The server closed instead of {heard!r}.")
            data += part
    return sock
