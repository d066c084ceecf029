"""Base classes for the sake of apps that were written for Flask-Sockets 0.2.1.

Such apps catch gevent-websocket's ``WebSocketError``, and ask whether something is its
``WebSocket``. To import gevent-websocket means to import gevent, which an app that is
served by threads has no use for. So instances of our classes are made instances of its
classes only once an app, or a server, has imported them: before that nobody can ask.
"""

from __future__ import annotations

import sys
import typing as t

T = t.TypeVar("T")

_classes: dict[tuple[type, str], type] = {}


def with_base(cls: type[T], module: str, name: str) -> type[T]:
    """Find the class that instances of one of our classes are made of.

    :param cls: our class.
    :param module: the module of gevent-websocket that has the base class for it.
    :param name: the name of the base class.
    :return: a subclass of both; ``cls`` itself as long as the module isn't imported.
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
