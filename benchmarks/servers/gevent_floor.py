"""What gevent costs without any protocol: wait, read, and write ready bytes.

The handshake is answered, and then every read is answered with as many echoes as it
held whole frames of the one size that the load generator announces in the URL.
"""

import base64
import hashlib
import re
import socket
import sys

from gevent import get_hub
from gevent.server import StreamServer


def handle(sock, address):
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(65536)
        if not data:
            return
        head += data
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)[1]
    frame_size = int(re.search(rb"GET /\?frame=(\d+)", head)[1])
    reply = bytes.fromhex(re.search(rb"&reply=(\w*)", head)[1].decode())
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
        + base64.b64encode(digest)
        + b"\r\n\r\n"
    )
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw = sock._sock
    hub = get_hub()
    watcher = hub.loop.io(sock.fileno(), 1)
    pending = 0
    while True:
        hub.wait(watcher)
        data = raw.recv(65536)
        if not data:
            return
        pending += len(data)
        count, pending = divmod(pending, frame_size)
        raw.send(reply * count)


StreamServer(("127.0.0.1", int(sys.argv[1])), handle).serve_forever()
