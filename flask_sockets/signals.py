"""Signals that tell of members of topics, as Flask's tell of requests."""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

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
