"""The test client: ``app.test_client().websocket("/echo")``."""

from __future__ import annotations

import functools
import typing as t

from flask.testing import EnvironBuilder, FlaskClient
from werkzeug.datastructures import Headers

from .session import SocketTestSession

if t.TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    _ClientBase = FlaskClient
else:
    _ClientBase = object

#: How long anything may take by default, in seconds.
TIMEOUT = 5.0


class SocketTestClientMixin(_ClientBase):
    """Adds the method ``websocket`` to a subclass of
    :class:`flask.testing.FlaskClient`: see :meth:`.SocketTestClient.websocket`.

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
    an app's ``test_client_class``. Other classes get ``websocket`` added.

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
