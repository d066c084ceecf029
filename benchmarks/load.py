"""A load generator for WebSocket echo servers that costs less than any of them.

All frames are made in advance; what comes back is counted by its length, and looked at
once, in the first message of each connection.
"""

from __future__ import annotations

import base64
import os
import selectors
import socket
import struct
import time
import typing as t

#: Any mask will do (RFC 6455 section 5.3 asks for an unpredictable one of browsers).
MASK = b"\x37\xfa\x21\x3d"


class Shape(t.NamedTuple):
    """How a load looks."""

    connections: int
    in_flight: int
    size: int
    binary: bool = False

    def __str__(self) -> str:
        size = f"{self.size} B" if self.size < 2**20 else f"{self.size // 2**20} MiB"
        return f"{self.connections} x {self.in_flight} x {size}"


def header(opcode: int, length: int, masked: bool) -> bytes:
    bit = 0x80 if masked else 0
    if length < 126:
        return bytes((0x80 | opcode, bit | length))
    if length < 65536:
        return struct.pack("!BBH", 0x80 | opcode, bit | 126, length)
    return struct.pack("!BBQ", 0x80 | opcode, bit | 127, length)


def payload_of(size: int) -> bytes:
    return (b"0123456789abcdef" * (size // 16 + 1))[:size]


def client_frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    repeated = (MASK * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return header(opcode, size, True) + MASK + masked.to_bytes(size, "big")


def server_frame(opcode: int, payload: bytes) -> bytes:
    return header(opcode, len(payload), False) + payload


def frames(shape: Shape) -> tuple[bytes, bytes]:
    """The frame a client sends, and the one it gets back."""
    payload = payload_of(shape.size)
    opcode = 2 if shape.binary else 1
    return client_frame(opcode, payload), server_frame(opcode, payload)


def handshake(port: int, target: str = "/") -> socket.socket:
    """Open one WebSocket."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    key = base64.b64encode(os.urandom(16)).decode()
    sock.sendall(
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(1)
        if not data:
            raise ConnectionError(f"No handshake: {head!r}")
        head += data
    if not head.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"No handshake: {head!r}")
    return sock


def receive_exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = sock.recv(min(size - len(data), 2**20))
        if not part:
            raise ConnectionError("The server closed the connection.")
        data += part
    return bytes(data)


class _Client:
    __slots__ = ("left", "out", "pending", "socket")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.pending = 0  # Bytes of an echo that isn't whole.
        self.out = memoryview(b"")
        self.left = 0


class Load:
    """Keeps ``shape.in_flight`` messages on their way on each connection."""

    def __init__(self, port: int, shape: Shape) -> None:
        self.frame, self.reply = frames(shape)
        target = "/"
        if shape.size < 1000:  # For the server without a protocol.
            target = f"/?frame={len(self.frame)}&reply={self.reply.hex()}"
        self.selector = selectors.EpollSelector()
        self.clients = []
        self.batches = [self.frame * n for n in range(min(shape.in_flight, 64) + 1)]
        for _ in range(shape.connections):
            sock = handshake(port, target)
            sock.sendall(self.frame)
            if receive_exactly(sock, len(self.reply)) != self.reply:
                raise ValueError("What came back is not what was sent.")
            self.clients.append(_Client(sock))
        for client in self.clients:
            client.socket.setblocking(False)
            self.selector.register(client.socket, selectors.EVENT_READ, client)
            self._send(client, self.batches[shape.in_flight])

    def _send(self, client: _Client, data: bytes | memoryview) -> None:
        try:
            sent = client.socket.send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            client.out = memoryview(data)[sent:]
            events = selectors.EVENT_READ | selectors.EVENT_WRITE
            self.selector.modify(client.socket, events, client)

    def run(self, seconds: float) -> int:
        """Go on for so long, and return how many messages came back."""
        messages = 0
        buffer = bytearray(2**20)
        size = len(self.reply)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for key, events in self.selector.select(0.1):
                client = key.data
                if events & selectors.EVENT_WRITE:
                    out, client.out = client.out, memoryview(b"")
                    self.selector.modify(client.socket, selectors.EVENT_READ, client)
                    self._send(client, out)
                if events & selectors.EVENT_READ:
                    got = client.socket.recv_into(buffer)
                    if not got:
                        raise ConnectionError("The server closed the connection.")
                    whole, client.pending = divmod(client.pending + got, size)
                    if whole:
                        messages += whole
                        self._send(client, self.batches[whole])
        return messages

    def close(self) -> None:
        self.selector.close()
        for client in self.clients:
            client.socket.close()
