"""The session of a test with one WebSocket, and the app that it runs.

The app is called as a server would call it, with one end of a socket pair, in a thread
of its own; in a process that gevent has patched, in a greenlet.
"""

from __future__ import annotations

import contextlib
import contextvars
import enum
import functools
import json
import os
import socket
import sys
import threading
import traceback
import typing as t

from websockets.frames import Close
from websockets.utils import generate_key
from werkzeug.datastructures import Headers
from werkzeug.test import run_wsgi_app

from ..exceptions import ConnectionClosed
from ..serving import handover as servers
from ..wire.closing import check_close
from .peer import Peer

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType, TracebackType

    from _typeshed.wsgi import WSGIEnvironment
    from flask import Flask
    from flask.testing import EnvironBuilder, FlaskClient
    from werkzeug.test import TestResponse
    from werkzeug.wrappers import Request

    # What 'run_wsgi_app' returns.
    _Answer: t.TypeAlias = tuple[Iterable[bytes], str, Headers]

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


class _State(enum.Enum):
    NEW = enum.auto()
    #: Inside of the 'with' block.
    ENTERED = enum.auto()
    #: Nothing is left of it but what it can tell.
    LEFT = enum.auto()


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
        self._state = _State.NEW
        self._answer: _Answer | None = None
        # What the handler, or the app around it, raised.
        self._error: BaseException | None = None
        self._was_error_raised = False
        self._is_killed = False

    def __repr__(self) -> str:
        if self._state is _State.NEW:
            state = "not entered"
        elif self.close_code is None:
            state = "open"
        else:
            state = f"closed with {self.close_code}"

        return f"<{type(self).__name__} {self._path!r} {state}>"

    # The with block

    def __enter__(self) -> SocketTestSession:
        if self._state is not _State.NEW:
            raise RuntimeError(
                "A session can be entered once. Call 'client.websocket()' again."
            )

        request = self._make_request()
        # Nothing that was made may be left when something fails from here on.
        self._start(request.environ)

        try:
            if not self._peer.settled.wait(self._timeout):
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
        self._peer.close(1000, "")

        try:
            # A test that has failed has waited already.
            self._end(self._timeout if exc_value is None else GRACE)
            self._raise_error()
        except BaseException as error:
            if exc_value is None:
                raise

            if isinstance(exc_value, ConnectionClosed) and exc_value.websocket is self:
                # The test has failed since the connection was closed by this error.
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
        # made for them below is too.
        ours, theirs = socket.socketpair()
        offered = environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")
        extensions = environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS", "")
        self._state = _State.ENTERED
        self._peer = Peer(
            ours,
            environ.get("HTTP_SEC_WEBSOCKET_KEY", ""),
            [name.strip() for name in offered.split(",") if name.strip()],
            compress="permessage-deflate" in extensions,
        )
        environ[servers.TEST_SOCKET_KEY] = theirs
        environ[servers.ON_ERROR_KEY] = self._take_error
        transport = self._peer.transport
        self._done = transport.new_event()
        run_app = functools.partial(self._run_app, environ, theirs)
        self._app_task = transport.spawn(run_app)

    def _take_response(self, request: Request) -> None:
        """Tell how the handshake went.

        :raises HandshakeRejected: if it is no WebSocket.
        """
        raw = self._peer.response

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

        if self._peer.handshake_error is not None:
            raise self._peer.handshake_error

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

        self._state = _State.LEFT
        # A thread can't be ended. The loss of the connection may do it.
        self._peer.cut()

        if message is not None and not self._done.wait(GRACE):
            kill = getattr(self._app_task, "kill", None)

            if kill is not None:
                self._is_killed = True
                kill(timeout=GRACE)

        if message is None:
            self._app_task.join(GRACE)

        self._peer.release(GRACE)

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
        except BaseException as error:
            # Exceptions get here because the app lets them pass.
            if not self._is_killed:
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

        if isinstance(message, (bytearray, memoryview)):
            message = bytes(message)
        elif not isinstance(message, (str, bytes)):
            raise TypeError(
                "A message is 'str' or 'bytes',"
                f" not '{type(message).__name__}'. Use 'send_json()' for other values."
            )

        if not self._peer.send(message):
            raise self._closed_error()

        if not self._peer.wait_sent(self._timeout):
            raise TimeoutError(
                f"The handler of {self._path!r} didn't receive what was sent within"
                f" {self._timeout:g} seconds.\n" + self._where()
            )

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
            message = self._peer.receive(timeout)
        except TimeoutError:
            self._raise_error()
            raise TimeoutError(
                f"The handler of {self._path!r} sent no message within"
                f" {timeout:g} seconds.\n" + self._where()
            ) from None

        if message is None:
            self._raise_error()
            raise self._closed_error()

        return message

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
        check_close(code, reason)
        self._peer.close(code, reason)

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
        return self._peer.close_frame

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol the app has chosen."""
        self._check_entered()
        return self._peer.subprotocol

    def _closed_error(self) -> ConnectionClosed:
        close = self._close_frame() or Close(1006, "")
        return ConnectionClosed(int(close.code), close.reason, self)

    def _check_entered(self) -> None:
        if self._state is _State.NEW:
            raise RuntimeError(
                "The WebSocket isn't connected yet. Use the session in a 'with' block:"
                " 'with client.websocket(...) as ws:'."
            )


def _add_note(error: BaseException, also: BaseException) -> None:
    """Tell with one exception that there was another."""
    error.add_note(
        "Besides, the handler of the WebSocket failed:\n"
        + "".join(traceback.format_exception(also)).rstrip()
    )
