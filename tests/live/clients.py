"""Two client libraries behind one interface, and a client of bytes."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import typing as t

import pytest
import websocket
import websockets.exceptions
import websockets.sync.client

from ..frames import Frame, read_frame
from ..process import PATIENCE

Headers = t.Mapping[str, str]
Message: t.TypeAlias = "str | bytes"


class Refused(Exception):
    """The server answered the handshake with HTTP."""

    def __init__(self, status: int, headers: t.Any, body: bytes) -> None:
        super().__init__(f"{status}: {body[:200]!r}")
        self.status = status
        self.headers = headers
        self.body = body.decode()


class Closed(Exception):
    """The server closed, with a code and a reason; 1006 if it said nothing."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


class Client(t.Protocol):
    """What the tests want of a client library."""

    #: Of the answer to the handshake. Names are in lower case.
    headers: dict[str, str]
    subprotocol: str | None

    def send(self, message: Message) -> None: ...

    def receive(self) -> Message:
        """:raises Closed: when there is nothing more."""

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Do the closing handshake."""

    def vanish(self) -> None:
        """End the connection without a word."""


#: One client library: connects to a URL, and raises :exc:`Refused` if it may not.
Kind: t.TypeAlias = t.Callable[..., Client]


def end_of(client: Client) -> tuple[int, str]:
    """Receive until the end: the code and the reason."""
    with pytest.raises(Closed) as caught:
        while True:
            client.receive()
    return caught.value.code, caught.value.reason


class WebsocketsClient:
    """The library 'websockets'."""

    def __init__(
        self,
        url: str,
        headers: Headers | None = None,
        subprotocols: t.Sequence[str] | None = None,
        origin: str | None = None,
    ) -> None:
        try:
            # What connect() returns is entered, and left by close().
            connection = websockets.sync.client.connect(
                url,
                additional_headers=headers,
                subprotocols=t.cast(t.Any, subprotocols),
                origin=t.cast(t.Any, origin),
                proxy=None,
                open_timeout=PATIENCE,
                close_timeout=PATIENCE,
                ping_interval=None,
                # close() waits for the answer behind messages nobody receives.
                max_queue=None,
            )
            self._ws = connection.__enter__()
        except websockets.exceptions.InvalidStatus as error:
            response = error.response
            raise Refused(
                response.status_code, response.headers, bytes(response.body)
            ) from None
        assert self._ws.response is not None
        self.headers = {
            name.lower(): value for name, value in self._ws.response.headers.raw_items()
        }
        self.subprotocol: str | None = self._ws.subprotocol

    def send(self, message: Message) -> None:
        self._ws.send(message)

    def receive(self) -> Message:
        try:
            return self._ws.recv(PATIENCE)
        except websockets.exceptions.ConnectionClosed as error:
            if error.rcvd is None:
                raise Closed(1006) from None
            raise Closed(int(error.rcvd.code), error.rcvd.reason) from None

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._ws.close(code, reason)

    def vanish(self) -> None:
        self._ws.socket.shutdown(socket.SHUT_RDWR)
        self._ws.close()


class _WebSocket(websocket.WebSocket):
    def send_close(self, *args: t.Any, **kwargs: t.Any) -> None:
        # A server that ends need not wait for this answer.
        with contextlib.suppress(OSError, websocket.WebSocketException):
            super().send_close(*args, **kwargs)


class WebsocketClientClient:
    """The library 'websocket-client'."""

    def __init__(
        self,
        url: str,
        headers: Headers | None = None,
        subprotocols: t.Sequence[str] | None = None,
        origin: str | None = None,
    ) -> None:
        try:
            self._ws = websocket.create_connection(
                url,
                timeout=PATIENCE,
                class_=_WebSocket,
                header=dict(headers or {}),
                subprotocols=list(subprotocols or ()),
                origin=origin,
                suppress_origin=origin is None,
            )
        except websocket.WebSocketBadStatusException as error:
            raise Refused(
                error.status_code, error.resp_headers, error.resp_body or b""
            ) from None
        self.headers: dict[str, str] = dict(self._ws.headers)
        self.subprotocol: str | None = self._ws.subprotocol

    def send(self, message: Message) -> None:
        if isinstance(message, bytes):
            self._ws.send_binary(message)
        else:
            self._ws.send(message)

    def receive(self) -> Message:
        try:
            opcode, data = t.cast("tuple[int, bytes]", self._ws.recv_data())
        except (websocket.WebSocketConnectionClosedException, ConnectionError):
            raise Closed(1006) from None
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            t.cast(t.Any, self._ws).shutdown()
            if not data:
                raise Closed(1005)
            raise Closed(struct.unpack("!H", data[:2])[0], data[2:].decode())
        return data.decode() if opcode == websocket.ABNF.OPCODE_TEXT else data

    def close(self, code: int = 1000, reason: str = "") -> None:
        self._ws.close(code, reason.encode(), timeout=PATIENCE)

    def vanish(self) -> None:
        t.cast(t.Any, self._ws).shutdown()


CLIENTS: dict[str, Kind] = {
    "websockets": WebsocketsClient,
    "websocket-client": WebsocketClientClient,
}


def connect(kind: Kind, url: str, **options: t.Any) -> t.Any:
    """Connect for the length of a 'with' statement."""
    return _connected(kind, url, options)


@contextlib.contextmanager
def _connected(kind: Kind, url: str, options: dict[str, t.Any]) -> t.Iterator[Client]:
    client = kind(url, **options)
    try:
        yield client
    finally:
        client.close()


KEY = base64.b64encode(b"sixteen bytes ok").decode()

HANDSHAKE = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


def handshake(
    path: str,
    method: str = "GET",
    protocol: str = "HTTP/1.1",
    **headers: str | None,
) -> bytes:
    """The bytes of a handshake request.

    :param headers: what is different, with ``_`` for ``-``. ``None`` leaves one out.
    """
    changed = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} {protocol}"]
    lines += [
        f"{name}: {value}"
        for name, value in {**HANDSHAKE, **changed}.items()
        if value is not None
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class Raw:
    """A client that counts bytes."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read_until(self, end: bytes) -> bytes:
        """Read up to and with certain bytes."""
        while end not in self._buffer:
            data = self.socket.recv(65536)
            assert data, f"The stream ended with {self._buffer!r}"
            self._buffer += data
        head, _, self._buffer = self._buffer.partition(end)
        return head + end

    def read(self, size: int) -> bytes:
        """Read so many bytes."""
        while len(self._buffer) < size:
            data = self.socket.recv(65536)
            assert data, f"The stream ended with {self._buffer!r}"
            self._buffer += data
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def read_frame(self) -> Frame:
        """Read a frame of the server."""
        return read_frame(self.read)

    def read_all(self) -> bytes:
        """Read to the end of the stream. A reset is an end too."""
        with contextlib.suppress(ConnectionError):
            while data := self.socket.recv(65536):
                self._buffer += data
        data, self._buffer = self._buffer, b""
        return data

    def read_response(self) -> tuple[int, dict[str, str], bytes]:
        """Read an HTTP response: status, headers with names in lower case, body."""
        head = self.read_until(b"\r\n\r\n").decode("latin-1")
        status, *lines = head.strip().split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        headers = {name.lower(): value for name, value in pairs}
        body = b""
        if status.split()[1] == "101":
            pass
        elif "content-length" in headers:
            body = self.read(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(self.read_until(b"\r\n"), 16):
                body += self.read(size)
                self.read_until(b"\r\n")
            self.read_until(b"\r\n")
        else:
            body = self.read_all()
        return int(status.split()[1]), headers, body

    def connect(self, path: str, **headers: t.Any) -> dict[str, str]:
        """Do the opening handshake, and return the headers of the answer."""
        self.send(handshake(path, **headers))
        status, answer, body = self.read_response()
        assert status == 101, (status, answer, body)
        return answer
