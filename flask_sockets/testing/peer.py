"""The client's end of the wire, in the process of the test."""

from __future__ import annotations

import collections
import contextlib
import time
import typing as t

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import CLOSED, CONNECTING, OPEN
from websockets.uri import parse_uri

from ..wire.closing import engine_logger
from ..wire.reader import READ_SIZE
from ..wire.transport import transport_for

if t.TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Sequence

    from websockets.typing import Subprotocol

    from ..wire.transport import Event

    # A message, or the end of them.
    _Item: t.TypeAlias = tuple[Opcode, bytes] | None

#: Seconds between two tries to send what the kernel didn't take, by whoever waits for
#: something else meanwhile.
RETRY = 0.02

#: How long a thread that looks after connections has to end, in seconds.
DISMISSAL = 1.0


class Peer:
    """A client that reads in the background, as a browser does whatever its page is
    busy with, and answers pings and the close.

    The opening handshake's request is made elsewhere. All that is waited for here waits
    in the way of the socket: as threads do, or as greenlets.

    :param sock: the client's end of a socket pair, which this closes.
    :param key: the request's ``Sec-WebSocket-Key``.
    :param subprotocols: those that the request offers.
    :param compress: whether the request offers permessage-deflate (RFC 7692).
    """

    def __init__(
        self, sock: socket.socket, key: str, subprotocols: Sequence[str], compress: bool
    ) -> None:
        self.transport = transport_for(sock)
        self.transport.open()
        self._engine = ClientProtocol(
            parse_uri("ws://localhost/"),  # For a request that we don't let it make.
            subprotocols=t.cast("list[Subprotocol]", list(subprotocols)) or None,
            extensions=(
                [ClientPerMessageDeflateFactory(client_max_window_bits=True)]
                if compress
                else None
            ),
            max_size=None,
            logger=engine_logger,
        )
        self._engine.key = key
        #: The answer to the handshake, if there is one.
        self.response: Response | None = None
        #: Set when the answer has come, or the end of the stream without one.
        self.settled = self.transport.new_event()
        # Held for an instant only: for the engine, and what it wants to be sent.
        self._lock = self.transport.new_lock()
        self._unsent = bytearray()
        self._is_cut = False
        self._fragments: tuple[Opcode, list[bytes]] = Opcode.TEXT, []
        self._inbox = _Inbox(self.transport.new_event())
        self._reader = self.transport.spawn(self._read)

    # What has become of it

    @property
    def handshake_error(self) -> Exception | None:
        """What is wrong with an answer that looked like a WebSocket's."""
        return self._engine.handshake_exc

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server has chosen."""
        return self._engine.subprotocol

    @property
    def close_frame(self) -> Close | None:
        """The Close frame of the side that closed first; ``None`` before. The code 1006
        stands for a connection that was cut (RFC 6455 section 7.1.5)."""
        engine = self._engine
        received, sent = engine.close_rcvd, engine.close_sent

        if received is not None and engine.close_rcvd_then_sent is not False:
            return received

        if sent is not None:
            return sent

        if engine.state in (CONNECTING, OPEN):
            return None

        return Close(1006, "")

    # Messages

    def send(self, message: str | bytes) -> bool:
        """Begin to send a message.

        :return: ``False`` if the connection is closed, and nothing is sent.
        """
        with self._locked():
            if self._engine.state is not OPEN:
                return False

            if isinstance(message, str):
                self._engine.send_text(message.encode())
            else:
                self._engine.send_binary(message)

            self._flush()

        return True

    def wait_sent(self, timeout: float | None) -> bool:
        """Wait until the kernel has all of the messages.

        :param timeout: seconds to wait at most.
        :return: ``False`` if time was up.
        """
        deadline = None if timeout is None else time.monotonic() + timeout

        while self._unsent:
            if deadline is not None and time.monotonic() > deadline:
                return False

            self.transport.wait_writable(RETRY)

            with self._locked():
                self._flush()

        return True

    def receive(self, timeout: float | None) -> str | bytes | None:
        """Wait for the next message.

        :param timeout: seconds to wait at most.
        :return: ``None`` at the end of the messages.
        :raises TimeoutError: if time was up. Nothing is lost.
        """
        item = self._inbox.get(timeout)

        if item is None:
            return None

        opcode, payload = item
        return payload.decode() if opcode is Opcode.TEXT else payload

    # The end

    def close(self, code: int, reason: str) -> None:
        """Send a Close frame, if the connection is open."""
        with self._locked():
            if self._engine.state is OPEN:
                self._engine.send_close(code, reason)
                self._flush()

    def cut(self) -> None:
        """End the connection without a word."""
        self._is_cut = True
        self.transport.shutdown()

    def release(self, timeout: float) -> None:
        """Leave nothing behind, after :meth:`cut`.

        :param timeout: seconds that the reader may take to end.
        """
        self._reader.join(timeout)
        self.transport.close()
        self.transport.socket.close()
        self.transport.scheduler.dismiss(DISMISSAL)

    # The reader

    def _read(self) -> None:
        try:
            while self._engine.state is not CLOSED and not self._is_cut:
                self.transport.wait_readable(RETRY if self._unsent else None)
                self._read_now()
        finally:
            # The app waits for the end of the stream when it has ended its own.
            self.transport.shutdown()
            self._inbox.put(None)
            self.settled.set()

    def _read_now(self) -> None:
        try:
            data = self.transport.receive(READ_SIZE)
        except OSError:
            data = b""

        with self._locked():
            if data:
                self._engine.receive_data(data)
            elif data is not None:
                self._engine.receive_eof()

            events = self._engine.events_received()
            self._flush()

        for event in events:
            if isinstance(event, Response):
                self.response = event
                self.settled.set()
            elif isinstance(event, Frame):
                self._take_frame(event)

    def _take_frame(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._fragments = frame.opcode, []
        elif frame.opcode is Opcode.CLOSE:
            self._inbox.put(None)
            return
        elif frame.opcode is not Opcode.CONT:
            return

        opcode, parts = self._fragments
        parts.append(bytes(frame.data))

        if frame.fin:
            self._inbox.put((opcode, b"".join(parts)))

    # Below both: always under the lock

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._lock.acquire()

        try:
            yield
        finally:
            self._lock.release()

    def _flush(self) -> None:
        """Give the kernel what it takes of what is to be sent."""
        for data in self._engine.data_to_send():
            self._unsent += data  # An empty one would end the stream. So do we.

        try:
            while self._unsent:
                size = self.transport.send(bytes(self._unsent[:READ_SIZE]))

                if not size:
                    return

                del self._unsent[:size]
        except OSError:
            self._unsent.clear()  # The reader finds out why.


class _Inbox:
    """Messages as they come, and ``None`` at the end, which stays there.

    The queues of :mod:`queue` and :mod:`gevent.queue` in one: who waits here waits for
    an event.
    """

    def __init__(self, event: Event) -> None:
        self._items: collections.deque[_Item] = collections.deque()
        self._has_come = event

    def put(self, item: _Item) -> None:
        self._items.append(item)
        self._has_come.set()

    def get(self, timeout: float | None) -> _Item:
        """Wait for the next one.

        :raises TimeoutError: if none came in so many seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout

        while True:
            self._has_come.clear()

            # What has come before that is seen here, and what comes later sets it.
            with contextlib.suppress(IndexError):
                item = self._items.popleft()

                if item is None:
                    self.put(None)

                return item

            left = None if deadline is None else deadline - time.monotonic()

            if not self._has_come.wait(left if left is None else max(left, 0)):
                raise TimeoutError
