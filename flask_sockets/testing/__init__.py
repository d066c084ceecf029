"""Tests of WebSockets: ``app.test_client().websocket("/echo")``."""

from .client import SocketTestClient as SocketTestClient
from .client import SocketTestClientMixin as SocketTestClientMixin
from .client import socket_client_class as socket_client_class
from .session import HandshakeRejected as HandshakeRejected
from .session import SocketTestSession as SocketTestSession
