"""Tests of WebSockets: ``app.test_client().websocket("/echo")``.

The app is called as a server would call it, with one end of a socket pair, in a thread
of its own; in a process that gevent has patched, in a greenlet. A second thread or
greenlet reads the other end, as a browser does whatever its page is busy with.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import json
import os
import queue
import socket
import sys
import threading
import time
import traceback
import typing as t

import gevent
import gevent.queue
from flask.testing import EnvironBuilder, FlaskClient
from websockets.client import ClientProtocol
from websockets.exceptions import ProtocolError
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Close, Frame, Opcode
from websockets.http11 import Response as RawResponse
from websockets.protocol import CLOSED, CONNECTING, OPEN
from websockets.uri import parse_uri
from websockets.utils import generate_key
from werkzeug.datastructures import Headers
from werkzeug.test import run_wsgi_app

from ..exceptions import ConnectionClosed
from ..serving import handover as servers
from ..wire import keepalive as keeper
from ..wire.connection import READ_SIZE
from ..wire.protocol import engine_logger
from ..wire.transport import transport_for

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FrameType, TracebackType

    from _typeshed.wsgi import WSGIEnvironment
    from flask import Flask
    from websockets.typing import Subprotocol
    from werkzeug.test import TestResponse
    from werkzeug.wrappers import Request

    from ..wire.transport import Transport

    _ClientBase = FlaskClient
    # What 'run_wsgi_app' returns.
    _Answer: t.TypeAlias = tuple[Iterable[bytes], str, Headers]
    # Messages as they come, and None at the end.
    _Inbox: t.TypeAlias = queue.Queue[tuple[Opcode, bytes] | None]
else:
    _ClientBase = object

__all__ = [
    "HandshakeRejected",
    "SocketTestClient",
    "SocketTestClientMixin",
    "SocketTestSession",
]

#: How long anything may take by default, in seconds.
TIMEOUT = 5.0

#: How long a handler that hangs has to end when its connection is cut, in seconds.
GRACE = 0.5


class HandshakeRejected(Exception):
    """The app answered the handshake with an HTTP response instead of a WebSocket.

    .. versionadded:: 1.0
    """

    #: What the app answered, as the test client's other methods return it.
    response: TestResponse

    def __init__(self, response: TestResponse) -> None:
        text = " ".join(response.get_data(as_text=True).split())
        if len(text) > 200:
            text = f"{text[:200]}..."
        super().__init__(
            f"The app answered the handshake of {response.request.path!r} with"
            f" {response.status}{f': {text}' if text else '.'}"
        )
        self.response = response


class SocketTestClientMixin(_ClientBase):
    """Adds :meth:`websocket` to a subclass of :class:`flask.testing.FlaskClient`.

    .. versionadded:: 1.0
    """

    def websocket(
        self,
        path: str = "/",
        *,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        query_string: Mapping[str, t.Any] | str | None = None,
        base_url: str | None = None,
        environ_overrides: Mapping[str, t.Any] | None = None,
        subprotocols: Iterable[str] = (),
        origin: str | None = None,
        timeout: float | None = TIMEOUT,
        **options: t.Any,
    ) -> SocketTestSession:
        """Connect to a WebSocket of the app, with the cookies of this client.

        .. code-block:: python

            with client.websocket("/echo") as ws:
                ws.send("hi")
                assert ws.receive() == "hi"

        Entering the ``with`` block waits until the handler accepts the connection.
        Leaving it closes the connection with code 1000 if it is open, and waits for
        the handler to end. An exception of the handler is raised from the next
        use of the session, or when the block is left, if the app lets exceptions
        pass, as it does in testing (see Flask's ``PROPAGATE_EXCEPTIONS``).

        :param path: the path, with or without a query string, or what ``url_for``
            gives.
        :param headers: more headers for the handshake, or others than usual.
        :param query_string: as in :class:`werkzeug.test.EnvironBuilder`.
        :param base_url: where the app is, such as ``"https://example.com/app"``.
        :param environ_overrides: put into the WSGI environment.
        :param subprotocols: those to offer, in the order of preference.
        :param origin: the site whose page connects. ``None`` is no browser.
        :param timeout: seconds that anything may take, connecting, receiving and the
            end of the handler. ``None`` waits forever, for a debugger.
        :param options: what else :class:`flask.testing.EnvironBuilder` takes, such as
            ``subdomain`` or ``auth``.
        :raises HandshakeRejected: on entering, if the app answers with HTTP.
        :raises TimeoutError: on entering, if the handler doesn't accept the
            connection, on leaving, if it doesn't end. The message shows where it is.
        """
        sent = Headers(headers)
        sent.setdefault("Upgrade", "websocket")
        sent.setdefault("Connection", "Upgrade")
        sent.setdefault("Sec-WebSocket-Version", "13")
        offered = list(subprotocols)
        if offered:
            sent["Sec-WebSocket-Protocol"] = ", ".join(offered)
        if origin is not None:
            sent["Origin"] = origin
        options.setdefault("environ_base", {})
        options["environ_base"] = {**self.environ_base, **options["environ_base"]}
        options.setdefault("multithread", True)
        builder = functools.partial(
            EnvironBuilder,
            self.application,
            _http_url(path),
            base_url=None if base_url is None else _http_url(base_url),
            query_string=query_string,
            environ_overrides=environ_overrides,
            **options,
        )
        return SocketTestSession(self, builder, sent, timeout)


class SocketTestClient(SocketTestClientMixin, FlaskClient):
    """The test client of an app with :class:`Sockets`.

    ``app.test_client()`` returns it; a type checker has to be told:
    ``client = t.cast(SocketTestClient, app.test_client())``. A subclass of this can be
    an app's ``test_client_class``. Other classes get :meth:`websocket` added.

    .. versionadded:: 1.0
    """


def _http_url(url: str) -> str:
    """What ``url_for`` gives for a WebSocket, as the WSGI environment has it."""
    return f"http{url[2:]}" if url.startswith(("ws://", "wss://")) else url


def socket_client_class(cls: type[FlaskClient] | None) -> type[FlaskClient]:
    """The class of an app's test client, with WebSockets."""
    if cls is None or cls is FlaskClient:
        return SocketTestClient
    if not isinstance(cls, type) or issubclass(cls, SocketTestClientMixin):
        return cls
    # The app's own class goes first in everything else.
    names = {"__module__": cls.__module__, "__doc__": cls.__doc__}
    return type(cls.__name__, (cls, SocketTestClientMixin), names)


class SocketTestSession:
    """The client's side of a WebSocket in a test.

    Made by :meth:`SocketTestClient.websocket`, to be used in a ``with`` block.

    .. versionadded:: 1.0
    """

    #: The handshake's response, *101 Switching Protocols*, with its headers.
    response: TestResponse

    def __init__(
        self,
        client: FlaskClient,
        make_builder: Callable[..., EnvironBuilder],
        headers: Headers,
        timeout: float | None,
    ) -> None:
        self._client = client
        self._make_builder = make_builder
        self._headers = headers
        self._timeout = timeout
        self._path = ""
        self._state = "new"
        self._answer: _Answer | None = None
        # What the handler, or the app around it, raised.
        self._error: BaseException | None = None
        self._was_error_raised = False

    def __repr__(self) -> str:
        if self._state == "new":
            state = "not entered"
        elif self.close_code is None:
            state = "open"
        else:
            state = f"closed with {self.close_code}"
        return f"<{type(self).__name__} {self._path!r} {state}>"

    # The with block

    def __enter__(self) -> SocketTestSession:
        if self._state != "new":
            raise RuntimeError(
                "A session can be entered once. Call 'client.websocket()' again."
            )
        request = self._make_request()
        # Nothing that was made may be left when something fails from here on.
        self._start(request.environ)
        try:
            if not self._settled.wait(self._timeout):
                raise TimeoutError(
                    f"The handler of {self._path!r} didn't accept the connection"
                    f" within {self._timeout:g} seconds. It does so when it first uses"
                    " the WebSocket, or calls 'accept()'.\n" + self._where()
                )
            self._take_response(request)
        except BaseException:
            with contextlib.suppress(TimeoutError):
                self._end(GRACE)
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._close(1000, "")
        try:
            # A test that has failed has waited already.
            self._end(self._timeout if exc_value is None else GRACE)
            self._raise_error()
        except BaseException as error:
            if exc_value is None:
                raise
            if isinstance(exc_value, ConnectionClosed) and exc_value.websocket is self:
                # That is only what became of this.
                raise error from None
            _add_note(exc_value, error)

    def _make_request(self) -> Request:
        self._headers.setdefault("Sec-WebSocket-Key", generate_key())
        builder = self._make_builder(headers=self._headers)
        try:
            request = builder.get_request()
        finally:
            builder.close()
        # 'with client:' is for views: it would keep a context of another thread.
        request.environ.pop("werkzeug.debug.preserve_context", None)
        self._client._add_cookies_to_wsgi(request.environ)
        self._path = request.path
        return request

    def _start(self, environ: WSGIEnvironment) -> None:
        # Where gevent has patched the process these are gevent's, and all that is
        # made for the transport below is too.
        ours, theirs = socket.socketpair()
        self._state = "open"
        self._socket = ours
        self._transport = transport_for(ours)
        self._transport.open()
        offered = environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")
        names = [name.strip() for name in offered.split(",") if name.strip()]
        extensions = environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", "")
        self._engine = ClientProtocol(
            parse_uri("ws://localhost/"),  # For a request that we don't let it make.
            subprotocols=t.cast("list[Subprotocol]", names) or None,
            extensions=(
                [ClientPerMessageDeflateFactory(client_max_window_bits=True)]
                if "permessage-deflate" in extensions
                else None
            ),
            max_size=None,
            logger=engine_logger,
        )
        self._engine.key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "")
        # Held for an instant only: for the engine, and what it wants to be sent.
        self._lock = self._transport.new_lock()
        self._unsent = bytearray()
        self._raw_response: RawResponse | None = None
        self._settled = self._transport.new_event()
        self._done = self._transport.new_event()
        self._inbox = _new_queue(self._transport)
        environ[servers.TEST_SOCKET_KEY] = theirs
        environ[servers.ON_ERROR_KEY] = self._take_error
        self._app_task, self._reader_task = (
            self._transport.spawn(functools.partial(self._run_app, environ, theirs)),
            self._transport.spawn(self._read),
        )

    def _take_response(self, request: Request) -> None:
        """Tell how the handshake went.

        :raises HandshakeRejected: if it is no WebSocket.
        """
        raw = self._raw_response
        if raw is not None:
            headers = Headers(raw.headers.raw_items())
            answer: _Answer = [], f"{raw.status_code} {raw.reason_phrase}", headers
        else:
            # The app has returned: the reader has seen the end of the stream.
            self._raise_error()
            if self._answer is None:
                raise RuntimeError("The app neither answered the handshake nor failed.")
            answer = self._answer
        self._client._update_cookies_from_response(
            request.host.partition(":")[0],
            request.path,
            answer[2].getlist("Set-Cookie"),
        )
        response = self._client.response_wrapper(*answer, request=request)
        response.json_module = self._app.json  # type: ignore[assignment]
        if raw is None:
            raise HandshakeRejected(response)
        if self._engine.handshake_exc is not None:
            raise self._engine.handshake_exc
        self.response = response

    def _end(self, timeout: float | None) -> None:
        """Wait until the handler has ended, and leave nothing behind.

        :param timeout: seconds to wait at most.
        :raises TimeoutError: if the handler hangs.
        """
        message = None
        if not self._done.wait(timeout):
            message = (
                f"The handler of {self._path!r} didn't end within"
                f" {timeout:g} seconds of the end of its connection.\n" + self._where()
            )
        self._state = "ended"
        # A thread can't be ended. The loss of the connection may do it.
        self._transport.shutdown()
        if message is not None and not self._done.wait(GRACE):
            kill = getattr(self._app_task, "kill", None)
            if kill is not None:
                kill(timeout=GRACE)
        self._reader_task.join(GRACE)
        if message is None:
            self._app_task.join(GRACE)
        self._transport.close()
        self._socket.close()
        keeper.dismiss(self._transport.scheduler)
        if message is not None:
            raise TimeoutError(message)

    # The handler's side

    @property
    def _app(self) -> Flask:
        return self._client.application

    def _run_app(self, environ: WSGIEnvironment, sock: socket.socket) -> None:
        def run() -> None:
            # All of it, as a server would.
            self._answer = run_wsgi_app(
                t.cast(t.Any, self._client.application), environ, buffered=True
            )

        try:
            # As in a server: with no context of whoever waits for the response.
            contextvars.Context().run(run)
        except gevent.GreenletExit:  # By us.
            pass
        except BaseException as error:
            # Exceptions get here because the app lets them pass.
            self._error = self._error or error
        finally:
            self._done.set()
            sock.close()

    def _take_error(self, error: Exception) -> bool:
        """Called with what can't be answered with HTTP. As in
        :meth:`flask.Flask.handle_exception`, the app says whether it passes.

        :return: ``False`` if the app is to log it.
        """
        propagate = self._app.config["PROPAGATE_EXCEPTIONS"]
        if propagate is None:
            propagate = self._app.testing or self._app.debug
        if propagate:
            self._error = self._error or error
        return bool(propagate)

    def _raise_error(self) -> None:
        """Raise what the handler raised, once."""
        if self._error is not None and not self._was_error_raised:
            self._was_error_raised = True
            raise self._error

    def _where(self) -> str:
        """Where the handler stands, to be read by people."""
        frame: FrameType | None
        if isinstance(self._app_task, threading.Thread):
            frame = sys._current_frames().get(self._app_task.ident or 0)
        else:
            frame = getattr(self._app_task, "gr_frame", None)
        if self._done.is_set() or frame is None:
            return "The handler has ended."
        stack = traceback.extract_stack(frame)
        package = os.path.dirname(os.path.dirname(__file__))
        ours = [e.name if e.filename.startswith(package) else "" for e in stack]
        # What is of interest begins where this package calls the handler, and ends
        # where the handler calls this package. The app may hang elsewhere: in a hook.
        if "call_handler" in ours:
            first = ours.index("call_handler") + 1
            last = next((i for i in range(first, len(ours)) if ours[i]), len(ours))
            stack = traceback.StackSummary.from_list(stack[first:last] or stack)
        lines = "".join(traceback.format_list(stack)).rstrip()
        return f"It stands here (most recent call last):\n{lines}"

    # The reader's side

    def _read(self) -> None:
        """Read all there is, as a browser does, and answer pings and the close."""
        try:
            while not self._is_at_end():
                # What the kernel didn't take is tried again, by whoever comes first.
                self._transport.wait_readable(0.02 if self._unsent else None)
                self._read_now()
        finally:
            # The app waits for the end of the stream when it has ended its own.
            self._transport.shutdown()
            self._inbox.put(None)
            self._settled.set()

    def _is_at_end(self) -> bool:
        return self._engine.state is CLOSED or self._state == "ended"

    def _read_now(self) -> None:
        try:
            data = self._transport.receive(READ_SIZE)
        except OSError:
            data = b""
        with _holding(self._lock):
            if data:
                self._engine.receive_data(data)
            elif data is not None:
                self._engine.receive_eof()
            events = self._engine.events_received()
            self._flush()
        for event in events:
            if isinstance(event, RawResponse):
                self._raw_response = event
                self._settled.set()
            elif isinstance(event, Frame):
                self._take_frame(event)

    _fragments: tuple[Opcode, list[bytes]] = Opcode.TEXT, []

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

    def _flush(self) -> None:
        """Give the kernel what it takes of what is to be sent. Under the lock."""
        for data in self._engine.data_to_send():
            self._unsent += data  # An empty one would end the stream. So do we.
        try:
            while self._unsent:
                size = self._transport.send(bytes(self._unsent[:READ_SIZE]))
                if not size:
                    return
                del self._unsent[:size]
        except OSError:
            self._unsent.clear()  # The reader finds out why.

    # The test's side

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message: ``str`` as text, the others as binary.

        :raises ConnectionClosed: if the connection is closed.
        :raises TypeError: if the message is of no such type.
        :raises TimeoutError: if the handler doesn't receive, and nothing more fits
            into the socket.
        """
        self._check_entered()
        self._raise_error()
        if isinstance(message, str):
            send, payload = self._engine.send_text, message.encode()
        elif isinstance(message, (bytes, bytearray, memoryview)):
            send, payload = self._engine.send_binary, bytes(message)
        else:
            raise TypeError(
                "A message is 'str' or 'bytes',"
                f" not '{type(message).__name__}'. Use 'send_json()' for other values."
            )
        with _holding(self._lock):
            if self._engine.state is not OPEN:
                raise self._closed_error()
            send(payload)
            self._flush()
        self._wait_sent()

    def _wait_sent(self) -> None:
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        while self._unsent:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(
                    f"The handler of {self._path!r} didn't receive what was sent"
                    f" within {self._timeout:g} seconds.\n" + self._where()
                )
            self._transport.wait_writable(0.02)
            with _holding(self._lock):
                self._flush()

    def send_json(self, value: t.Any) -> None:
        """Send a value as a text message of JSON."""
        self.send(json.dumps(value))

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Wait for the next message.

        :param timeout: seconds to wait at most, by default those of the session.
        :return: ``str`` for a text message, ``bytes`` for a binary one.
        :raises ConnectionClosed: if the connection is closed and all messages from
            before are received. It has the code and the reason.
        :raises TimeoutError: if no message came in time. The message shows where the
            handler stands. Nothing is lost.
        """
        self._check_entered()
        timeout = self._timeout if timeout is None else timeout
        try:
            item = self._inbox.get(timeout=timeout)
        except queue.Empty:
            self._raise_error()
            raise TimeoutError(
                f"The handler of {self._path!r} sent no message within"
                f" {timeout:g} seconds.\n" + self._where()
            ) from None
        if item is None:
            self._inbox.put(None)
            self._raise_error()
            raise self._closed_error()
        opcode, payload = item
        return payload.decode() if opcode == Opcode.TEXT else payload

    def receive_json(self, timeout: float | None = None) -> t.Any:
        """Wait for the next message, and read it as JSON.

        :param timeout: as for :meth:`receive`, which raises the same.
        :raises ValueError: if the message isn't JSON.
        """
        return json.loads(self.receive(timeout))

    def __iter__(self) -> Iterator[str | bytes]:
        """Receive messages until the connection is closed with code 1000.

        :raises ConnectionClosed: if it is closed with another.
        """
        while True:
            try:
                message = self.receive()
            except ConnectionClosed as error:
                if error.websocket is not self or error.code != 1000:
                    raise
                return
            yield message

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection. Does nothing if it is closed already.

        Returns at once. The end of the handler is waited for when the ``with`` block
        is left.

        :param code: 1000, another code of RFC 6455 section 7.4.1, or 3000 to 4999.
        :param reason: up to 123 bytes of UTF-8.
        :raises ValueError: if a client can't send the code, or the reason is too long.
        """
        self._check_entered()
        try:
            size = len(Close(code, reason).serialize())
        except ProtocolError:
            raise ValueError(f"{code!r} is no close code that can be sent.") from None
        if size > 125:
            raise ValueError("The reason of a close has at most 123 bytes.")
        self._close(code, reason)

    def _close(self, code: int, reason: str) -> None:
        with _holding(self._lock):
            if self._engine.state is OPEN:
                self._engine.send_close(code, reason)
                self._flush()

    @property
    def close_code(self) -> int | None:
        """The close code of the side that closed first, ``None`` before: 1005 if it
        gave none, 1006 if the connection was cut.

        To wait for the end, :meth:`receive` until it raises.
        """
        close = self._close_frame()
        return None if close is None else int(close.code)

    @property
    def close_reason(self) -> str | None:
        """The text that went with :attr:`close_code`, ``None`` before."""
        close = self._close_frame()
        return None if close is None else close.reason

    def _close_frame(self) -> Close | None:
        self._check_entered()
        engine = self._engine
        received, sent = engine.close_rcvd, engine.close_sent
        if received is not None and engine.close_rcvd_then_sent is not False:
            return received
        if sent is not None:
            return sent
        if engine.state in (CONNECTING, OPEN):
            return None
        return Close(1006, "")

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol the app has chosen."""
        self._check_entered()
        return self._engine.subprotocol

    def _closed_error(self) -> ConnectionClosed:
        close = self._close_frame() or Close(1006, "")
        return ConnectionClosed(int(close.code), close.reason, self)

    def _check_entered(self) -> None:
        if self._state == "new":
            raise RuntimeError(
                "The WebSocket isn't connected yet. Use the session in a 'with' block:"
                " 'with client.websocket(...) as ws:'."
            )


def _new_queue(transport: Transport) -> _Inbox:
    """A queue for whatever waits for the transport."""
    if transport.scheduler is not threading:
        return t.cast("_Inbox", gevent.queue.Queue())
    return queue.Queue()


@contextlib.contextmanager
def _holding(lock: t.Any) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _add_note(error: BaseException, also: BaseException) -> None:
    """Tell with one exception that there was another."""
    error.add_note(
        "Besides, the handler of the WebSocket failed:\n"
        + "".join(traceback.format_exception(also)).rstrip()
    )
