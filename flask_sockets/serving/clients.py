"""``ws.handler.server.clients``, to which apps of 0.2.1 broadcast.

gevent-websocket has a dictionary there of all that are connected, and apps send to its
values without a thought of what may happen meanwhile:

.. code-block:: python

    for client in ws.handler.server.clients.values():
        client.ws.send(message)

That went well: the dictionary didn't change while the loop ran, and no client of it was
one that had just closed, as greenlets had no occasion to switch. Here they have, and
threads always do. So looking at the dictionary gives who is connected now, and what is
sent to a client that closes in that instant is lost as if it had been under way.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from greenlet import getcurrent

from ..exceptions import ConnectionClosed

if t.TYPE_CHECKING:
    import socket
    from collections.abc import ItemsView, Iterator, KeysView, ValuesView

    from _typeshed.wsgi import WSGIEnvironment

    from ..websocket import WebSocket


class Client:
    """A client that is connected, as in :class:`geventwebsocket.handler.Client`."""

    def __init__(self, address: t.Any, websocket: WebSocket) -> None:
        #: As the server has it, such as ``("127.0.0.1", 50000)``.
        self.address = address
        self._websocket = websocket
        self._owner = getcurrent()

    @property
    def ws(self) -> t.Any:
        """The WebSocket: for its own handler as it is, for others as they need it."""
        if getcurrent() is self._owner:
            return self._websocket

        return OthersWebSocket(self._websocket)

    def belongs_to(self, websocket: t.Any) -> bool:
        """Whether it is the client of a WebSocket."""
        return self._websocket is websocket

    @property
    def is_closing(self) -> bool:
        """Whether either side has said Close, or the connection is lost."""
        return self._websocket.connection.closed is not None


class OthersWebSocket:
    """The WebSocket of another handler. That one learns what has become of the client,
    and whoever sends to everybody needn't.
    """

    _websocket: WebSocket

    def __init__(self, websocket: WebSocket) -> None:
        object.__setattr__(self, "_websocket", websocket)

    @property
    def closed(self) -> bool:
        """Whether the connection is closed."""
        return self._websocket.accepted and self._websocket.closed

    def send(self, *args: t.Any, **kwargs: t.Any) -> None:
        """Send a message, unless the client is gone or not there yet.

        Its own handler has still to decide whether it is let in.
        """
        if self._websocket.accepted:
            with contextlib.suppress(ConnectionClosed):
                self._websocket.send(*args, **kwargs)

    def send_frame(self, *args: t.Any, **kwargs: t.Any) -> None:
        """Send a frame, on the same terms as :meth:`send`."""
        if self._websocket.accepted:
            with contextlib.suppress(ConnectionClosed):
                self._websocket.send_frame(*args, **kwargs)

    # In all else it is that WebSocket.

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._websocket)

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._websocket, name)

    def __setattr__(self, name: str, value: t.Any) -> None:
        setattr(self._websocket, name, value)

    def __eq__(self, other: object) -> bool:
        return getattr(other, "_websocket", other) is self._websocket

    def __hash__(self) -> int:
        return hash(self._websocket)

    def __repr__(self) -> str:
        return repr(self._websocket)


class Clients(dict[t.Any, t.Any]):
    """The clients of a server, by their addresses.

    Whatever looks at all of them sees a copy of what there is now, without those that
    are closing.
    """

    def _now(self) -> dict[t.Any, t.Any]:
        return {
            address: client
            for address, client in list(super().items())
            if not getattr(client, "is_closing", False)
        }

    def keys(self) -> KeysView[t.Any]:  # type: ignore[override]
        return self._now().keys()

    def values(self) -> ValuesView[t.Any]:  # type: ignore[override]
        return self._now().values()

    def items(self) -> ItemsView[t.Any, t.Any]:  # type: ignore[override]
        return self._now().items()

    def __iter__(self) -> Iterator[t.Any]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __delitem__(self, address: t.Any) -> None:
        # gevent-websocket's handler deletes its client when the app has returned. By
        # then it has been gone for a while.
        self.pop(address, None)


class Server:
    """What there is of a server where an app has no way to the real one."""

    def __init__(self) -> None:
        #: All WebSockets of the process that such servers serve.
        self.clients = Clients()


_server = Server()

if hasattr(os, "register_at_fork"):
    # They are connected to the process that was forked.
    os.register_at_fork(after_in_child=_server.clients.clear)


class Handler:
    """What ``ws.handler`` is where the server isn't gevent's: under ``flask run`` and
    gunicorn's own workers.

    .. versionadded:: 1.0
    """

    def __init__(self, environ: WSGIEnvironment, sock: socket.socket) -> None:
        #: The WSGI environment of the handshake request.
        self.environ = environ
        #: The socket, which belongs to the WebSocket.
        self.socket = sock
        #: It has ``clients``, as gevent-websocket's servers do.
        self.server = _server
        #: The address of the client, or of the proxy it comes through.
        self.client_address: t.Any = ""

        with contextlib.suppress(OSError):  # It has gone already.
            self.client_address = sock.getpeername()

        #: The WebSocket.
        self.websocket: WebSocket | None = None

    @property
    def active_client(self) -> Client:
        """The entry of this handler's client in ``server.clients``."""
        return t.cast(Client, active_client(self))


def active_client(handler: t.Any) -> t.Any:
    """The entry of a handler's client, for as long as the handler runs."""
    return handler.server.clients[_address_of(handler)]


def add(websocket: WebSocket, handler: t.Any) -> None:
    """Count a client among those of its handler's server."""
    server = handler.server
    clients = getattr(server, "clients", None)

    if not isinstance(clients, Clients):
        clients = server.clients = Clients(clients or {})

    clients[_address_of(handler)] = Client(handler.client_address, websocket)
    handler.websocket = websocket


def remove(websocket: WebSocket) -> None:
    """Forget a client whose handler has ended."""
    address = _address_of(websocket.handler)
    clients = websocket.handler.server.clients
    client = clients.get(address)

    if isinstance(client, Client) and client.belongs_to(websocket):
        del clients[address]


def _address_of(handler: t.Any) -> t.Any:
    """What tells a client from others. At a Unix socket no client has an address."""
    return handler.client_address or handler
