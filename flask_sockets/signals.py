"""Signals that tell of WebSockets and members of topics, as Flask's of requests."""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: Sent when a WebSocket is accepted, in the context of its handshake. The sender is the
#: app; the other argument is ``websocket``.
#:
#: .. versionadded:: 1.0
websocket_opened = _signals.signal("websocket-opened")

#: Sent once for each WebSocket that was accepted, when it is closed and its handler has
#: ended, in the app's context. The sender is the app; the other arguments are:
#:
#: ``websocket``
#:     The :class:`~flask_sockets.WebSocket`. Nothing can be sent any more.
#: ``code``, ``reason``
#:     Why it was closed, as in :attr:`.WebSocket.close_code` and ``close_reason``.
#: ``closed_by``
#:     Who closed it: ``"client"`` or ``"server"``.
#: ``duration``
#:     The seconds from the handshake to the end of the handler.
#: ``messages_received``, ``bytes_received``, ``messages_sent``, ``bytes_sent``
#:     How much went each way: whole messages, and the bytes of their payloads. Of what
#:     came by topics, the headers of its frames count as well.
#:
#: .. versionadded:: 1.0
websocket_closed = _signals.signal("websocket-closed")

#: Sent when a member is in a topic that wasn't there before, with any socket. The
#: sender is the app; the other arguments are ``topic``, ``member`` and ``info``.
#:
#: .. versionadded:: 1.0
member_joined = _signals.signal("member-joined")

#: Sent when the last socket of a member has left a topic, however it ended. The
#: arguments are those of :data:`member_joined`.
#:
#: .. versionadded:: 1.0
member_left = _signals.signal("member-left")
