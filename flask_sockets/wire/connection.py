"""One WebSocket connection: a reader, a writer and a keepalive around a protocol.

One greenlet or thread may receive while others send. What closes the connection
concerns both sides: for that the protocol has a lock, held for an instant only.
"""

from __future__ import annotations

import dataclasses
import random
import time
import typing as t

from . import frames
from .closing import Close
from .keepalive import NEVER, Keepalive, Signs, Verdict
from .metered_reader import MeteredReader
from .protocol import Protocol
from .reader import Input, Reader
from .registry import keeper_for
from .timers import Timers
from .writer import Writer

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from websockets.extensions import Extension

    from .protocol import Options
    from .registry import Entry
    from .timers import Expiry
    from .transport import Transport

#: How long the client may take to answer a Close frame, in seconds.
CLOSE_TIMEOUT = 5.0

#: How long bytes that come after the end are still read, in seconds. Closing a
#: socket with unread bytes resets it, and the client may lose the Close frame.
LINGER = 1.0


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a connection has ended, and what went over it: for logs and signals."""

    #: The close code (RFC 6455 section 7.4), 1006 where there was no Close frame.
    code: int
    #: What the side that closed gave as its reason.
    reason: str
    #: The side that closed: ``"client"`` or ``"server"``.
    closed_by: str
    #: Whole messages, and the bytes of their payloads.
    messages_received: int
    bytes_received: int
    messages_sent: int
    bytes_sent: int


class Connection:
    """A connection after the handshake.

    :param transport: its socket.
    :param options: of the app.
    :param extensions: those that were agreed on in the handshake.
    :param early: what the server has read behind the handshake. It belongs to the
        WebSocket, and comes first.
    """

    def __init__(
        self,
        transport: Transport,
        options: Options,
        extensions: Sequence[Extension] = (),
        early: bytes = b"",
    ) -> None:
        self.transport = transport
        self.options = options
        self.protocol = Protocol(options, extensions)
        self.closing = self.protocol.closing

        if early:
            self.protocol.receive_data(early)

        # Held by the writer for an instant, and while the connection is being closed.
        self._mutex = transport.scheduler.new_mutex()
        rate = options.message_rate

        if rate is None:
            self.reader = Reader(transport, self.protocol, self)
        else:
            self.reader = MeteredReader(transport, self.protocol, self, rate)

        self.writer = Writer(transport, self._mutex, self._lose_output)

        if self.protocol.is_compressed:
            self.writer.compress = self.protocol.compress

        self._entry: Entry | None = None
        self._keepalive: Keepalive | None = None
        self._timers: Timers | None = None
        #: Whether the client has sent more messages in a time than it may.
        self.is_rate_exceeded = False
        # When a client that doesn't answer a Close frame is cut.
        self._close_deadline = NEVER
        # Called, and let go of, once it is closed.
        self._closed_callbacks: list[Callable[[], None]] | None = []

    def begin(self, handshake: bytes) -> None:
        """Take the socket and send the handshake.

        :param handshake: the whole response, empty if the server has sent it.
        :raises RuntimeError: if there are too many threads. HTTP can still say so.
        """
        self._entry = keeper_for(self.transport.scheduler).keep(self)

        try:
            self.transport.open()
        except OSError:
            self.lose()
            return

        if handshake:
            self.writer.put(handshake)

        interval = self.options.ping_interval

        if interval is not None:
            self._keepalive = Keepalive(
                interval,
                self.options.ping_timeout,
                time.monotonic(),
                1 - random.random() * 0.9,
            )
            self.look_soon(self._keepalive.deadline)

        if self.options.idle_timeout is not None or self._timers is not None:
            expiry = None if self._timers is None else self._timers.expiry
            self._timers = Timers(self.options.idle_timeout, time.monotonic())
            self._set_expiry(expiry)

        self.reader.begin()

    @property
    def closed(self) -> Close | None:
        """How it was closed, ``None`` until a Close frame is sent or received, or the
        connection is lost."""
        return self.closing.close

    @property
    def ending(self) -> Ending:
        """How it has ended. If it hasn't, as if it were lost now."""
        close = self.closed or Close(1006, "", "client")
        received, writer = self.protocol.received, self.writer
        return Ending(
            code=close.code,
            reason=close.reason,
            closed_by=close.by,
            messages_received=received.messages,
            bytes_received=received.bytes,
            messages_sent=writer.messages,
            bytes_sent=writer.bytes,
        )

    # Messages and frames

    def send_control(self, opcode: int, payload: bytes) -> None:
        """Send a ping or pong, behind whatever waits for the client to read, unless the
        connection is closed."""
        self.writer.put_control(frames.encode(opcode, payload))

    def answer_pings(self, pongs: list[bytes]) -> None:
        """Send the frames that answer pings, if anything may still be sent.

        To a client that doesn't read the last one will do (RFC 6455 section 5.5.3).
        """
        if self.writer.is_blocked:
            self.writer.put_control(pongs[-1])
        else:
            self.writer.put_control(b"".join(pongs))

    # The end

    def go_away(self, code: int, reason: str) -> None:
        """Send a Close frame, unless the connection is closed, and don't wait."""
        self._close_with(self.closing.send_close, code, reason)

    def close_at(self, expiry: Expiry | None) -> None:
        """Close the connection at a time, in the terms of :func:`time.monotonic`.

        The last call counts. It may come before the handshake.

        :param expiry: ``None`` for never.

        .. versionadded:: 1.0
        """
        if self._timers is None:
            self._timers = Timers(self.options.idle_timeout, time.monotonic())

        self._set_expiry(expiry)

    def _set_expiry(self, expiry: Expiry | None) -> None:
        assert self._timers is not None
        self._timers.expiry = expiry

        if expiry is not None:
            self._timers.deadline = min(self._timers.deadline, expiry.when)

        self.look_soon(self._timers.deadline)

    def end_hasty(self) -> None:
        """The client has sent more messages than it may, so close unless that is done.

        For the reader.
        """
        self.is_rate_exceeded |= self.closing.close is None
        self._close_with(self.closing.refuse_more, 1008, "too many messages")

    def read_end(self) -> None:
        """Read the frame that closes the connection. For the reader."""
        self._close_with(self.protocol.read_end)

    def _close_with(self, action: Callable[..., None], *args: t.Any) -> None:
        """Let the protocol close the connection, and send what is due then."""
        closing = self.closing

        with self._mutex:
            action(*args)
            due, closing.frames_due = closing.frames_due, []

        for frame in due:
            self.writer.put_control(frame)

        if closing.is_over:
            self.reader.end_messages()
            self.writer.end_behind_close()

        if closing.close is not None:
            self._tell_closed()

    def lose(self) -> None:
        """The connection is gone, or has to go: nothing can be read or written.

        Whoever waits for the socket wakes up and finds that out.
        """
        with self._mutex:
            self.closing.lose()

        self.reader.end()
        self.transport.shutdown()
        self.writer.end()
        self._tell_closed()

    def _lose_output(self) -> None:
        """Take note that nothing can be written. What the client sent may say why."""
        self.transport.shutdown()
        self.reader.read_last_words()

    def _tell_closed(self) -> None:
        """Do what is to be done once it is closed."""
        if self._closed_callbacks is None:
            return

        with self._mutex:
            callbacks, self._closed_callbacks = self._closed_callbacks, None

            if callbacks is None:
                return

            self._close_deadline = time.monotonic() + CLOSE_TIMEOUT

        self.look_soon(self._close_deadline)

        for callback in callbacks:
            self.transport.call_soon(callback)

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call a function once the connection is closed, however that happens.

        It is called exactly once, on the connection's scheduler, and must not block.
        If the connection is closed already it is called soon.

        .. versionadded:: 1.0
        """
        with self._mutex:
            if self._closed_callbacks is not None:
                self._closed_callbacks.append(callback)
                return

        self.transport.call_soon(callback)

    def wait_closed(self, deadline: float | None) -> bool:
        """Wait until the connection is closed. Pings are answered meanwhile, and
        messages that there is no room for are thrown away.

        :param deadline: in the terms of :func:`time.monotonic`.
        :return: ``False`` at the deadline.
        """
        closed = self.transport.new_event()
        self.when_closed(closed.set)
        self.reader.unheeding += 1

        try:
            self.reader.look_now()
            timeout = None if deadline is None else deadline - time.monotonic()
            closed.wait(None if timeout is None else max(0.0, timeout))
            return self.closed is not None
        finally:
            self.reader.unheeding -= 1

            with self._mutex:
                if self._closed_callbacks is not None:
                    self._closed_callbacks.remove(closed.set)

    def finish(self, code: int, reason: str, timeout: float = CLOSE_TIMEOUT) -> None:
        """Close, and wait until the client has closed too.

        Nothing is written to the socket ever after.

        :param timeout: seconds to wait at most.
        """
        deadline = time.monotonic() + timeout

        try:
            self.go_away(code, reason)
            self.reader.finish(deadline, LINGER)
        finally:
            if self._entry is not None:
                self._entry.keeper.forget(self._entry)

            self.lose()
            # The scheduler, or a receiver that the handler has left behind, may be at
            # the socket still. The loss has woken them up.
            self.reader.leave(LINGER)
            self.transport.close()

    # What is done while the handler does something else

    def look_soon(self, when: float) -> None:
        """Call :meth:`look_after` at a time, in the terms of :func:`time.monotonic`,
        unless it is called before anyway."""
        if self._entry is not None:
            self._entry.keeper.wake(self._entry, when)

    def look_after(self, now: float) -> float:
        """Do what has to be done whatever the handler does. Doesn't wait.

        :param now: what :func:`time.monotonic` says.
        :return: when to look next.
        """
        if self.reader.state is Input.ENDED:
            return NEVER

        deadline = self.reader.look(now)

        if self.closing.close is not None:
            if now >= self._close_deadline:
                self.lose()

            return min(deadline, self._close_deadline)

        timers = self._timers

        if timers is not None and now >= timers.deadline:
            messages = self.protocol.received.messages + self.writer.messages
            closing = timers.check(now, messages)

            if closing is not None:
                self.go_away(*closing)
                return self._close_deadline

        if timers is not None:
            deadline = min(deadline, timers.deadline)

        if self._keepalive is not None:
            verdict = self._keepalive.check(now, self._signs)

            if verdict is Verdict.PING:
                self.writer.put_control(frames.encode(frames.PING, b""))
            elif verdict is Verdict.GIVE_UP:
                self._close_with(self.closing.give_up)
                self.lose()

            deadline = min(deadline, self._keepalive.deadline)

        return deadline

    def _signs(self) -> Signs:
        """What was seen of the client."""
        unconfirmed = self.transport.unconfirmed()
        return Signs(
            frames=self.protocol.frames_read,
            read=self.reader.bytes_read,
            unread=self.transport.unread(),
            confirmed=self.writer.taken - unconfirmed,
            is_blocked=self.writer.is_blocked or unconfirmed > 0,
        )
