"""WebSocket routes for Flask."""

from __future__ import annotations

import typing as t

from werkzeug.routing import Rule as Rule  # Apps take it from here, as 0.2.1 had it.

from .dispatch import SocketMiddleware as SocketMiddleware
from .exceptions import ConnectionClosed as ConnectionClosed
from .extension import Sockets as Sockets
from .handshake import UpgradeRequired as UpgradeRequired
from .signals import member_joined as member_joined
from .signals import member_left as member_left
from .signals import websocket_closed as websocket_closed
from .signals import websocket_opened as websocket_opened
from .topics.broker import Broker as Broker
from .topics.broker import BrokerUnavailable as BrokerUnavailable
from .topics.publication import Publication as Publication
from .topics.subscription import Subscription as Subscription
from .views import WebSocketView as WebSocketView
from .websocket import WebSocket as WebSocket

if t.TYPE_CHECKING:
    #: The version of the package, as a string.
    __version__: str

    from .exceptions import WebSocketError as WebSocketError
    from .serving.handler import WebSocketHandler as WebSocketHandler
    from .testing import HandshakeRejected as HandshakeRejected
    from .testing import SocketTestClient as SocketTestClient
    from .testing import SocketTestClientMixin as SocketTestClientMixin
    from .testing import SocketTestSession as SocketTestSession

#: What tests import. An app that is served needn't wait for it.
_TESTING = (
    "HandshakeRejected",
    "SocketTestClient",
    "SocketTestClientMixin",
    "SocketTestSession",
)


def __getattr__(name: str) -> t.Any:
    # Only gunicorn asks for this, as 'gunicorn -k flask_sockets.worker'.
    if name in ("worker", "Worker"):
        from .serving.gunicorn import GeventWebSocketWorker

        return GeventWebSocketWorker

    # An app that is served by threads needn't wait for the import of gevent.
    if name == "WebSocketHandler":
        from .serving.handler import WebSocketHandler

        return WebSocketHandler

    if name == "WebSocketError":
        from .exceptions import WebSocketError

        return WebSocketError

    if name in _TESTING:
        from . import testing

        return getattr(testing, name)

    if name == "__version__":
        from importlib.metadata import version

        return version("Flask-Sockets")

    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
