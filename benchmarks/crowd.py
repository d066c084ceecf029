"""The clients of a reliability campaign, well-behaved ones and others, in greenlets.

gevent has to have patched the sockets before this is imported.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import dataclasses
import json
import os
import random
import socket
import struct
import time
import typing as t

import gevent
from gevent.lock import BoundedSemaphore
from load import client_frame

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10

#: Seconds within which an answer has to come.
PATIENCE = 60.0
#: How many messages a reader reads at most before it leaves.
MAX_READ = 400
#: How many clients of the crowd connect at the same time.
CONNECTING = 100


class Refused(Exception):
    """The handshake was answered in another way than by a WebSocket, or not at all."""


class Ended(Exception):
    """The stream has ended. The code is that of the Close frame, 1006 without one."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclasses.dataclass
class Tally:
    """What the clients have seen."""

    #: Who couldn't connect, by the reason.
    refused: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    #: How the connections of the well-behaved ended.
    closed: collections.Counter[int] = dataclasses.field(
        default_factory=collections.Counter
    )
    #: What the others did, and how often.
    misdeeds: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter
    )
    #: How many clients hold a connection now.
    held: int = 0
    #: Publications that came, to rooms and of the topic with history.
    delivered: int = 0
    lost: int = 0
    twice: int = 0
    #: How often a message had to be published again.
    failed: int = 0
    #: Clients that came back and were told that something may be missing.
    unrecovered: int = 0


class Client:
    """A WebSocket.

    :param buffer: bytes that the kernel keeps for it, for clients that don't read.
    """

    def __init__(self, port: int, target: str, buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self._data = b""
        try:
            if buffer is not None:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self.socket.settimeout(PATIENCE)
            self.socket.connect(("127.0.0.1", port))
            self._shake_hands(port, target)
        except OSError as error:
            self.socket.close()
            raise Refused(type(error).__name__) from error
        except BaseException:
            self.socket.close()
            raise
        self.socket.settimeout(None)

    def _shake_hands(self, port: int, target: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._data:
            if not self._fill():
                raise Refused("ended")
        head, _, self._data = self._data.partition(b"\r\n\r\n")
        status = head.split(b" ", 2)[1].decode()
        if status != "101":
            raise Refused(status)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def _fill(self) -> bool:
        data = self.socket.recv(65536)
        self._data += data
        return bool(data)

    def _take(self, size: int) -> bytes:
        while len(self._data) < size:
            if not self._fill():
                raise Ended(1006)
        data, self._data = self._data[:size], self._data[size:]
        return data

    def send(self, message: str) -> None:
        self.socket.sendall(client_frame(TEXT, message.encode()))

    def receive(self) -> bytes:
        """Wait for a message, and answer what comes before it.

        :raises Ended: if there is none.
        """
        try:
            while True:
                first, size = self._take(2)
                if size == 126:
                    (size,) = struct.unpack("!H", self._take(2))
                elif size == 127:
                    (size,) = struct.unpack("!Q", self._take(8))
                payload = self._take(size)
                opcode = first & 15
                if opcode == TEXT:
                    return payload
                if opcode == PING:
                    self.socket.sendall(client_frame(PONG, payload))
                elif opcode == CLOSE:
                    self.socket.sendall(client_frame(CLOSE, payload[:2]))
                    raise Ended(int.from_bytes(payload[:2], "big"))
        except OSError as error:
            raise Ended(1006) from error

    def reset(self) -> None:
        """Vanish, with what the kernel says for it."""
        self.socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.socket.close()


class Reader:
    """Reads the topic with history, leaves in the middle of it every now and then, and
    counts what is missing."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._position: str | None = None
        #: The last number that was read.
        self.last = 0

    def target(self) -> str:
        return "/log" if self._position is None else f"/log?since={self._position}"

    def use(self, client: Client) -> None:
        answer = json.loads(client.receive())
        if self._position is not None and not answer["recovered"]:
            self._tally.unrecovered += 1
        for _ in range(random.randint(1, MAX_READ)):
            envelope = json.loads(client.receive())
            number = int(envelope["data"])
            if self._position is not None:
                self._tally.lost += max(0, number - self.last - 1)
                self._tally.twice += number <= self.last
            self._position = envelope["position"]
            self.last = max(self.last, number)
            self._tally.delivered += 1
        client.reset()


class Crowd:
    """All clients.

    :param ports: of the instances of the app. Nobody reloads the first one.
    """

    def __init__(self, ports: t.Sequence[int], rooms: int) -> None:
        self.tally = Tally()
        self.readers: list[Reader] = []
        #: How many numbers were published.
        self.published = 0
        self._ports = ports
        self._rooms = rooms
        self._greenlets: list[gevent.Greenlet[..., t.Any]] = []
        self._publisher: gevent.Greenlet[..., t.Any] | None = None
        self._connecting = BoundedSemaphore(CONNECTING)

    def _spawn(self, function: t.Callable[..., None], *args: t.Any) -> t.Any:
        greenlet = gevent.spawn(function, *args)
        self._greenlets.append(greenlet)
        return greenlet

    def leave(self) -> None:
        """Let all clients vanish."""
        gevent.killall(self._greenlets)

    def failures(self) -> list[str]:
        """What went wrong in the clients themselves."""
        return [
            repr(greenlet.exception)
            for greenlet in self._greenlets
            if greenlet.exception is not None
        ]

    def _return(
        self,
        port: int | None,
        target: t.Callable[[], str],
        use: t.Callable[[Client], None],
    ) -> None:
        """Connect again and again, as clients of htmx do.

        :param port: of an instance, or ``None`` for a different one each time.
        """
        retries = 0
        while True:
            try:
                with self._connecting:
                    client = Client(port or random.choice(self._ports), target())
                retries = 0
                with client:
                    use(client)
            except Refused as refusal:
                self.tally.refused[str(refusal)] += 1
            except Ended as end:
                self.tally.closed[end.code] += 1
            gevent.sleep(random.random() * 2 ** min(retries, 6))
            retries += 1

    # Those who behave

    def hold(self, count: int) -> None:
        """Let clients stay in rooms, half of them at each instance."""
        for number in range(count):
            port = self._ports[number % len(self._ports)]
            target = f"/room/{number % self._rooms}"
            self._spawn(self._return, port, lambda target=target: target, self._stay)

    def _stay(self, client: Client) -> None:
        if client.receive() != b"ready":
            raise ValueError("A room says something else first.")
        self.tally.held += 1
        try:
            while True:
                client.receive()
                self.tally.delivered += 1
        finally:
            self.tally.held -= 1

    def read(self, count: int) -> None:
        """Let clients read the topic with history, now at this instance and now at
        that one."""
        for _ in range(count):
            reader = Reader(self.tally)
            self.readers.append(reader)
            self._spawn(self._return, None, reader.target, reader.use)

    def start_publishing(self, rate: float) -> None:
        """Publish numbers to the topic with history, something to each room in turn,
        and to the firehose. The first instance does it.

        :param rate: how many in a second of each.
        """
        self._publisher = self._spawn(self._publish, rate)

    def stop_publishing(self) -> None:
        if self._publisher is not None:
            self._publisher.kill()

    def _publish(self, rate: float) -> None:
        next_time = time.monotonic()
        with Client(self._ports[0], "/publish") as client:
            while True:
                number = self.published
                for message in (
                    f"room/{number % self._rooms} {'x' * 100}",
                    f"firehose {'x' * 2**15}",
                    f"log {number + 1}",
                ):
                    self._publish_one(client, message)
                self.published += 1
                next_time = max(next_time + 1 / rate, time.monotonic())
                gevent.sleep(next_time - time.monotonic())

    def _publish_one(self, client: Client, message: str) -> None:
        """Publish a message, again and again while Redis is too slow to answer. It may
        come more than once then."""
        client.send(message)
        while client.receive() != b"published":
            self.tally.failed += 1
            gevent.sleep(0.5)
            client.send(message)

    # The others

    def misbehave(self, count: int) -> None:
        """Let clients do one thing after the other that nobody likes."""
        for _ in range(count):
            self._spawn(self._do_misdeeds)

    def _do_misdeeds(self) -> None:
        misdeeds = (self._vanish, self._stall, self._fall_silent, *_RUBBISH)
        while True:
            misdeed = random.choice(misdeeds)
            with contextlib.suppress(OSError, Refused, Ended):
                misdeed(random.choice(self._ports))
            self.tally.misdeeds[misdeed.__name__.strip("_")] += 1
            gevent.sleep(random.random())

    def _vanish(self, port: int) -> None:
        """Reset the connection in the middle of something."""
        with Client(port, f"/room/{random.randrange(self._rooms)}") as client:
            gevent.sleep(random.random() * 5)
            client.socket.sendall(client_frame(TEXT, b"x" * 1000)[:500])
            client.reset()

    def _stall(self, port: int) -> None:
        """Read nothing of what comes fast."""
        with Client(port, "/firehose", buffer=4096):
            gevent.sleep(random.random() * 60)

    def _fall_silent(self, port: int) -> None:
        """Read no ping, as a phone does in a tunnel."""
        with Client(port, f"/room/{random.randrange(self._rooms)}"):
            gevent.sleep(random.random() * 120)


def _send(port: int, data: bytes) -> None:
    """Send something instead of HTTP, and see what comes of it."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        sock.sendall(data)
        sock.recv(65536)


def _send_noise(port: int) -> None:
    _send(port, os.urandom(200) + b"\r\n\r\n")


def _send_half_a_request(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"GET /room/1 HTTP/1.1\r\nHost: a\r\nUpgra")
        gevent.sleep(random.random() * 5)


def _ask_for_nothing(port: int) -> None:
    _send(port, b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")


def _send_bad_frames(port: int) -> None:
    with Client(port, "/room/1") as client:
        client.receive()
        client.socket.sendall(random.choice(_BAD_FRAMES))
        while True:
            client.receive()


_BAD_FRAMES = (
    b"\x81\x05hello",  # Not masked.
    client_frame(3, b""),  # No such opcode.
    client_frame(TEXT, b"\xff\xfe"),  # Not UTF-8.
    client_frame(CLOSE, b"\x03"),
    b"\xf1\x80" + bytes(4),  # Reserved bits.
)

_RUBBISH = (_send_noise, _send_half_a_request, _ask_for_nothing, _send_bad_frames)
