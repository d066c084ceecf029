"""The classes of gevent-websocket that apps of Flask-Sockets 0.2.1 know.

They catch its ``WebSocketError``, and ask whether something is its ``WebSocket``. To
import it means to import gevent, which an app that is served by threads has no use for.
So instances of ours are only made instances of these as well once an app, or a server,
has imported it: before that nobody can ask.
"""

from __future__ import annotations

import sys
import typing as t

T = t.TypeVar("T")

_classes: dict[tuple[type, str], type] = {}


def with_base(cls: type[T], module: str, name: str) -> type[T]:
    """Find the class that instances of one of ours are made of.

    :param cls: ours.
    :param module: where gevent-websocket has the base class that it gets.
    :param name: the name of that class.
    :return: ``cls`` itself as long as the module isn't imported.
    """
    base = getattr(sys.modules.get(module), name, None)
    if base is None:
        return cls
    key = (cls, name)
    if key not in _classes:
        _classes[key] = type(
            cls.__name__, (cls, base), {"__module__": cls.__module__, "__slots__": ()}
        )
    return _classes[key]
