"""The WebSocket that handlers get: gevent-websocket's interface, on any server."""

from __future__ import annotations

import json
import time
import typing as t

from .clock import monotonic_time
from .exceptions import ConnectionClosed
from .legacy_bases import with_base
from .opening import AnsweredWithHTTP, Handshake
from .wire import frames
from .wire.closing import check_close
from .wire.reader import AlreadyReceiving
from .wire.timers import Expiry
from .wire.writer import OutputEnded

if t.TYPE_CHECKING:
    import datetime
    from collections.abc import Iterator

    from _typeshed.wsgi import WSGIEnvironment

    from .contexts import Pauses
    from .opening import Headers, Opening
    from .topics.app import AppTopics, Since
    from .topics.subscriber import Subscriber
    from .topics.subscription import Subscription
    from .wire.protocol import Message


_ACCEPTED = Handshake.ACCEPTED

#: How long a handler that has received, but doesn't any more, is told that a connection
#: with unread messages isn't closed, in seconds.
UNREAD_PATIENCE = 0.5


class WebSocket:
    """A WebSocket connection, as its handler sees it.

    It has the interface of :class:`geventwebsocket.websocket.WebSocket`, and is an
    instance of it where that is imported. The first use of :meth:`receive`,
    :meth:`send`, :meth:`close`, :attr:`closed` or iteration accepts the connection,
    unless :meth:`accept` did. Until then the request can still be answered with an
    ordinary HTTP response.

    Any number of greenlets or threads may send at the same time, while one receives.

    .. versionchanged:: 1.0
        Replaces the class of gevent-websocket, whose code it doesn't use.
    """

    OPCODE_CONTINUATION = frames.CONTINUATION
    OPCODE_TEXT = frames.TEXT
    OPCODE_BINARY = frames.BINARY
    OPCODE_CLOSE = frames.CLOSE
    OPCODE_PING = frames.PING
    OPCODE_PONG = frames.PONG

    #: The WSGI environment of the handshake request.
    environ: WSGIEnvironment
    #: The handler object of gevent's pywsgi. Under other servers, an object that has
    #: the same ``server.clients`` and ``active_client``.
    handler: t.Any

    def __new__(cls, *args: t.Any, **kwargs: t.Any) -> WebSocket:
        return super().__new__(with_base(cls, "geventwebsocket.websocket", "WebSocket"))

    def __init__(
        self,
        environ: WSGIEnvironment,
        opening: Opening,
        handler: t.Any = None,
        topics: AppTopics | None = None,
    ) -> None:
        self.environ = environ
        self.handler = handler
        #: How far the handshake has come.
        self.opening = opening
        #: For servers and logs: what goes on below this interface.
        self.connection = opening.connection
        self._app_topics = topics
        # Made by the first use of topics.
        self._subscriber: Subscriber | None = None
        self._was_end_told = False
        #: What is done while the handler waits for its client, if anything is.
        self.pauses: Pauses | None = None
        # The greenlet or thread that received first.
        self._receiver: int | None = None
        # How many messages were unread when that one asked whether it is closed, and
        # when that was.
        self._unread_when_asked = 0
        self._asked_at = 0.0

    def __del__(self) -> None:
        """The base class would close the connection. That is done long before."""

    def __repr__(self) -> str:
        if self.opening.state is not Handshake.ACCEPTED:
            state = "not accepted"
        elif self.connection.closed is not None:
            state = f"closed with {self.close_code}"
        else:
            state = "open"

        return f"<{type(self).__name__} {self.path!r} {state}>"

    # The request

    @property
    def origin(self) -> str | None:
        """The ``Origin`` header of the handshake: the site whose page connected."""
        return self.environ.get("HTTP_ORIGIN")

    @property
    def protocol(self) -> str | None:
        """The subprotocols the client offered, as one header value.

        The one agreed on is :attr:`subprotocol`.
        """
        return self.environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL")

    @property
    def version(self) -> str | None:
        """The version of the WebSocket protocol, ``"13"``."""
        return self.environ.get("HTTP_SEC_WEBSOCKET_VERSION")

    @property
    def path(self) -> str | None:
        """The path of the URL."""
        return self.environ.get("PATH_INFO")

    # The handshake

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol agreed on in the handshake (RFC 6455 section 1.9). Before
        :meth:`accept`, the one that is taken if that isn't told otherwise."""
        return self.opening.subprotocol

    @property
    def accepted(self) -> bool:
        """Whether the handshake is done. Looking at it doesn't do it.

        .. versionadded:: 1.0
        """
        return self.opening.state in (Handshake.ACCEPTED, Handshake.ACCEPTING)

    def accept(
        self, subprotocol: str | None = None, headers: Headers | None = None
    ) -> None:
        """Answer the handshake with *101 Switching Protocols* (RFC 6455 section 4.2.2).

        Only needed to give arguments, or to let the client know early. The session
        is saved now; its cookie, and the headers that ``after_request`` functions
        set, go out with the answer.

        :param subprotocol: one of those the client offered. By default, the first of
            the route's ``subprotocols`` that it offered.
        :param headers: more headers for the answer.
        :raises RuntimeError: if the connection is accepted already.
        :raises ValueError: if the client didn't offer the subprotocol.

        .. versionadded:: 1.0
        """
        if not self.ensure_accepted(subprotocol, headers):
            raise RuntimeError(
                "The WebSocket is accepted already. Call 'accept()' before anything"
                " that uses the connection, such as 'receive()', 'send()' or 'closed'."
            )

    def ensure_accepted(
        self, subprotocol: str | None = None, headers: Headers | None = None
    ) -> bool:
        """Accept the connection unless that is done, and say whether it was now."""
        try:
            return self.opening.accept(subprotocol, headers)
        except AnsweredWithHTTP:
            because = "answered with an HTTP response"
            raise ConnectionClosed(1006, because, self) from None

    # Receiving

    def receive(self, timeout: float | None = None) -> Message | None:
        """Wait for the next message.

        :param timeout: seconds to wait at most. ``None`` waits for as long as the
            connection lasts.
        :return: ``str`` for a text message, ``bytes`` for a binary one. ``None`` when
            the connection has ended, whoever ended it: :attr:`close_code` tells more.
        :raises TimeoutError: if no message came in time. Nothing is lost.
        :raises ConnectionClosed: if ``None`` was returned before.
        :raises RuntimeError: if another greenlet or thread is receiving.
        """
        if self.opening.state is not _ACCEPTED:
            self.ensure_accepted()

        reader = self.connection.reader

        if self._receiver is None:
            self._receiver = self.connection.transport.identify()

        pauses = self.pauses

        try:
            if pauses is not None:
                pauses.begin()

            message = reader.receive(
                None if timeout is None else time.monotonic() + timeout
            )
        except AlreadyReceiving:
            raise RuntimeError(
                "Another greenlet or thread is receiving from this WebSocket already."
                " Receive in one place and hand the messages on from there."
            ) from None
        finally:
            if pauses is not None:
                pauses.end()

        if message is None:
            if self._was_end_told:
                raise self._closed_error()

            self._was_end_told = True

        return message

    def __iter__(self) -> Iterator[Message]:
        """Receive messages until the connection is closed."""
        while not (self._was_end_told and not self.connection.reader.messages):
            message = self.receive()

            if message is None:
                return

            yield message
            del message  # It isn't kept while the next one is waited for.

    def wait_closed(self, timeout: float | None = None) -> bool:
        """Wait until the connection is closed, for a handler that only sends.

        Pings are answered meanwhile. What the client sends can be received later, but
        what is more than ``SOCKETS_MAX_READ_AHEAD`` is thrown away.

        :param timeout: seconds to wait at most. ``None`` waits for as long as the
            connection lasts.
        :return: ``False`` if it isn't closed yet.

        .. versionadded:: 1.0
        """
        if self.opening.state is not _ACCEPTED:
            self.ensure_accepted()

        pauses = self.pauses

        try:
            if pauses is not None:
                pauses.begin()

            return self.connection.wait_closed(
                None if timeout is None else time.monotonic() + timeout
            )
        finally:
            if pauses is not None:
                pauses.end()

    def receive_json(self, timeout: float | None = None) -> t.Any:
        """Wait for the next message, and read it as JSON.

        :param timeout: as for :meth:`receive`.
        :raises ValueError: if the message isn't JSON. The connection is as before.
        :raises ConnectionClosed: if the connection has ended. ``None`` would stand
            for the JSON text ``null``.

        .. versionadded:: 1.0
        """
        message = self.receive(timeout)

        if message is None:
            raise self._closed_error()

        return json.loads(message)

    # Sending

    def send(
        self,
        message: str | bytes | bytearray | memoryview,
        binary: bool | None = None,
        timeout: float | None = None,
    ) -> None:
        """Send a message. When this returns, the kernel has all of it.

        :param message: ``str`` is sent as text, the others as binary.
        :param binary: send it as binary, or as text, whatever its type.
        :param timeout: seconds to wait at most for a client that doesn't read.
        :raises TypeError: if the message is of no such type.
        :raises ValueError: if what is to be sent as text can't be, or isn't, UTF-8.
        :raises TimeoutError: if the client didn't make room in time. The connection
            is lost if a part of the message had gone out.
        :raises ConnectionClosed: if the connection is closed.
        """
        if self.opening.state is not _ACCEPTED:
            self.ensure_accepted()

        connection = self.connection

        if connection.closing.close is not None:
            raise self._closed_error()

        if isinstance(message, str):
            payload = message.encode()
            is_text = not binary
        elif isinstance(message, (bytes, bytearray, memoryview)):
            payload = bytes(message)
            is_text = binary is False

            if is_text:
                payload.decode()
        else:
            raise TypeError(
                "A message is 'str' or 'bytes',"
                f" not '{type(message).__name__}'. Use 'send_json()' for other values."
            )

        if self._subscriber is not None:
            # What this handler has published before comes before.
            self._subscriber.settle()

        try:
            connection.writer.write(
                frames.TEXT if is_text else frames.BINARY,
                payload,
                None if timeout is None else time.monotonic() + timeout,
            )
        except OutputEnded:
            raise self._closed_error() from None

    def send_json(self, value: t.Any, timeout: float | None = None) -> None:
        """Send a value as a text message of JSON.

        :param timeout: as for :meth:`send`.
        :raises TypeError: if JSON has no form for the value.

        .. versionadded:: 1.0
        """
        self.send(json.dumps(value), timeout=timeout)

    def ping(self, payload: str | bytes = b"") -> None:
        """Send a ping, which clients answer by themselves (RFC 6455 section 5.5.2).

        Connections are kept alive without your doing this.

        :param payload: up to 125 bytes.
        :raises ConnectionClosed: if the connection is closed.

        .. versionadded:: 1.0
        """
        self.send_frame(payload, frames.PING)

    def send_frame(
        self, message: str | bytes | bytearray | memoryview, opcode: int
    ) -> None:
        """Send a single frame. For code written for gevent-websocket.

        :param opcode: one of the ``OPCODE_*`` numbers of this class, other than
            ``OPCODE_CONTINUATION``.
        :raises TypeError: if the message is of no type that can be sent.
        :raises ValueError: if there can't be such a frame.
        :raises ConnectionClosed: if the connection is closed.
        """
        if isinstance(message, str):
            payload = message.encode()
        else:
            payload = bytes(memoryview(message))  # Not a number: that makes zeros.

        if opcode in (frames.TEXT, frames.BINARY):
            self.send(payload, binary=opcode == frames.BINARY)
            return

        if opcode == frames.CLOSE:
            if not payload:
                self.close()
            else:
                self.close(int.from_bytes(payload[:2], "big"), payload[2:])

            return

        if opcode not in (frames.PING, frames.PONG):
            raise ValueError(f"A frame of opcode {opcode!r} can't be sent by itself.")

        if len(payload) > frames.MAX_CONTROL_PAYLOAD:
            raise ValueError(
                "The payload of a ping or pong has at most"
                f" {frames.MAX_CONTROL_PAYLOAD} bytes, not {len(payload)}."
            )

        self.ensure_accepted()

        if self.connection.closed is not None:
            raise self._closed_error()

        self.connection.send_control(opcode, payload)

    # Topics

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that the WebSocket is subscribed to.

        .. versionadded:: 1.0
        """
        return () if self._subscriber is None else tuple(self._subscriber.groups)

    def subscribe(
        self,
        *topics: str,
        history: int = 0,
        since: Since = None,
        envelope: bool = False,
        member: str | None = None,
        info: t.Any = None,
    ) -> Subscription:
        """Send what is published to topics to this WebSocket, as long as it lasts.

        Nobody waits for a client that reads too slowly: what becomes of it is an option
        of :meth:`.Sockets.topic`. Who may subscribe is decided by the functions that
        the same method decorates. They are called before the connection is accepted by
        this, if it isn't yet, so that they can answer with HTTP.

        A topic that the WebSocket is subscribed to already stays as it is, but for
        ``member`` and ``info``.

        :param topics: their names.
        :param history: how many of the last publications to send first.
        :param since: the position a client comes back with, as a text, or by topic if
            there are several. Everything that was published later is sent first, if all
            of it is still there: see :attr:`.Subscription.recovered`. If not, or if
            that is no position, ``history`` counts.
        :param envelope: send each message as JSON with ``topic``, ``position`` and
            ``data``, as text. ``data`` is the message, or the value if it was published
            as JSON; if ``encoding`` is ``"base64"``, it holds bytes.
        :param member: who this is, for topics with presence. A member may have several
            sockets.
        :param info: what others may know about the member: up to 4,096 bytes as JSON.
        :return: a context manager: nothing of the topics is sent before its block ends.
        :raises ValueError: if there can't be a topic of such a name, if a topic has no
            history or no presence, if the info is too large, or if there are more
            topics than the config ``SOCKETS_MAX_TOPICS`` allows.
        :raises TypeError: if an argument has the wrong type.
        :raises ConnectionClosed: if the connection is closed.

        .. versionadded:: 1.0
        """
        return self._topics_of_app().subscribe(
            self,
            self._as_subscriber(),
            topics,
            history=history,
            since=since,
            envelope=envelope,
            member=member,
            info=info,
        )

    def unsubscribe(self, *topics: str) -> None:
        """End subscriptions. Nothing that is published later is sent.

        :param topics: their names. Without any, all subscriptions end.
        :raises ValueError: if there can't be a topic of such a name.
        :raises TypeError: if a name isn't a ``str``.

        .. versionadded:: 1.0
        """
        self._topics_of_app().unsubscribe(self._as_subscriber(), topics or self.topics)

    def publish(self, topic: str, message: Message) -> None:
        """Publish a message to all that are subscribed to a topic, but not to this
        WebSocket.

        To be one of those who get it use :meth:`.Sockets.publish`, which raises the
        same.

        .. versionadded:: 1.0
        """
        self._topics_of_app().publish(topic, message, self._subscriber)

    def end_subscriptions(self) -> None:
        """The handler has returned. Called by the dispatcher."""
        if self._subscriber is not None:
            self._topics_of_app().end(self._subscriber)

    def _topics_of_app(self) -> AppTopics:
        if self._app_topics is None:
            raise RuntimeError("This WebSocket was made without an app.")

        return self._app_topics

    def _as_subscriber(self) -> Subscriber:
        if self._subscriber is None:
            app_topics = self._topics_of_app()
            self._subscriber = app_topics.new_subscriber(self.connection)

        return self._subscriber

    # The end

    @property
    def closed(self) -> bool:
        """Whether the connection is closed, by either side or by its loss.

        To whoever receives it is ``False`` as long as messages from before the end are
        unread, so that ``while not ws.closed`` around :meth:`receive` gets them all,
        unless it has asked for half a second without receiving any.
        """
        if self.opening.state is Handshake.REFUSED:
            return True

        self.ensure_accepted()
        connection = self.connection
        end = connection.closed

        if end is None:
            return False

        unread = len(connection.reader.messages)

        if (
            not unread
            or end.by == "server"
            or self._receiver != connection.transport.identify()
        ):
            return True

        now = time.monotonic()

        if self._unread_when_asked != unread:
            self._unread_when_asked, self._asked_at = unread, now

        return now >= self._asked_at + UNREAD_PATIENCE

    @property
    def close_code(self) -> int | None:
        """Why the connection was closed (RFC 6455 section 7.4), ``None`` before.

        It is the code of the side that closed first: 1005 if the client gave none,
        1006 if the connection was lost.

        .. versionadded:: 1.0
        """
        end = self.connection.closed
        return None if end is None else end.code

    @property
    def close_reason(self) -> str | None:
        """The text that went with :attr:`close_code`, ``None`` before.

        .. versionadded:: 1.0
        """
        end = self.connection.closed
        return None if end is None else end.reason

    def close(self, code: int = 1000, message: str | bytes | None = b"") -> None:
        """Close the connection. Does nothing if it is closed already.

        Returns at once. The client's answer is waited for when the handler returns.

        :param code: 1000 if all is well, another code of RFC 6455 section 7.4.1, or
            one of your own from 4000 to 4999.
        :param message: the reason, up to 123 bytes of UTF-8.
        :raises ValueError: if the code can't be sent, or the reason is too long.
        """
        reason = message.decode() if isinstance(message, bytes) else message or ""
        check_close(code, reason)

        if self.opening.state is not Handshake.REFUSED:
            self.ensure_accepted()
            self.connection.go_away(code, reason)

    def close_at(
        self,
        time: float | datetime.datetime | None,
        code: int = 1008,
        reason: str = "expired",
    ) -> None:
        """Close the connection at a time, such as when the client's credentials expire.

        The last call counts, so that a client can renew its credentials. The handler
        sees that the connection is closed, as if it had been closed by :meth:`close`.
        Calling this doesn't accept the connection.

        :param time: seconds since the epoch, as :func:`time.time` and the claim ``exp``
            of a JSON Web Token (RFC 7519 section 4.1.4) have it, or a time with a time
            zone. ``None`` for never.
        :param code: as for :meth:`close`. The default tells reconnecting clients to
            stay away.
        :param reason: up to 123 bytes of UTF-8.
        :raises ValueError: if the code can't be sent, the reason is too long, or the
            time has no time zone or isn't finite.
        :raises TypeError: if the time is of no such type.

        .. versionadded:: 1.0
        """
        check_close(code, reason)
        expiry = None if time is None else Expiry(monotonic_time(time), code, reason)
        self.connection.close_at(expiry)

    def _closed_error(self) -> ConnectionClosed:
        return self.connection.closing.error(self)
