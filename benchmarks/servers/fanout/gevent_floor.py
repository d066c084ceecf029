"""What gevent costs without any protocol: one send of ready bytes for each subscriber.

With ``joined`` as the first argument, what was published while the publisher was read
once is sent in one piece. Only the publisher's frames are parsed, as far as needed.
"""

import base64
import hashlib
import re
import socket
import sys

from gevent.server import StreamServer

ACCEPT = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n"
)
JOINED = sys.argv[1] == "joined"
members = {}


def handle(sock, address):
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(65536)
        if not data:
            return
        head += data
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)[1]
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(ACCEPT % base64.b64encode(digest))
    if head.startswith(b"GET /publish"):
        publish(sock)
        return
    members[sock] = sock._sock.send
    sock.sendall(b"\x81\x05ready")
    sock.recv(1)
    del members[sock]


def publish(sock):
    pending = b""
    while data := sock.recv(2**20):
        pending += data
        frames = []
        while frame := take_frame(pending):
            size, ready = frame
            pending = pending[size:]
            frames.append(ready)
        if JOINED:
            frames = [b"".join(frames)] if frames else []
        for ready in frames:
            for member, send in members.items():
                try:
                    sent = send(ready)
                except BlockingIOError:
                    sent = 0
                if sent < len(ready):
                    member.sendall(ready[sent:])


def take_frame(data):
    """The size of the masked frame in front, and the same without a mask."""
    if len(data) < 2:
        return None
    extended = {126: 2, 127: 8}.get(data[1] & 127, 0)
    start = 2 + extended
    length = int.from_bytes(data[2:start], "big") if extended else data[1] & 127
    end = start + 4 + length
    if len(data) < end:
        return None
    mask = data[start : start + 4] * (length // 4 + 1)
    payload = int.from_bytes(data[start + 4 : end], "big") ^ int.from_bytes(
        mask[:length], "big"
    )
    header = bytes((data[0], data[1] & 127)) + data[2:start]
    return end, header + payload.to_bytes(length, "big")


StreamServer(("127.0.0.1", int(sys.argv[-1])), handle).serve_forever()
