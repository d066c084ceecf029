"""The config ``SOCKETS_BROKER``: which broker it names."""

from __future__ import annotations

import typing as t

from .broker import Broker
from .memory import MemoryBroker

#: The schemes of URLs that mean Redis, or something that speaks like it.
REDIS_SCHEMES = frozenset(
    ("redis", "rediss", "unix", "valkey", "valkeys", "redis+sentinel")
)


def import_broker(setting: t.Any) -> None:
    """Import what the broker needs that the config ``SOCKETS_BROKER`` names.

    The broker itself is made later, when everybody would have to wait for that.

    :raises ImportError: if a package is missing.
    """
    if isinstance(setting, str) and setting.partition(":")[0] in REDIS_SCHEMES:
        from . import redis  # noqa: F401


def make_broker(setting: t.Any, prefix: str) -> Broker:
    """Make the broker that the config ``SOCKETS_BROKER`` names.

    :param setting: a URL, or a broker.
    :param prefix: what the names of all keys and channels begin with, the config
        ``SOCKETS_PREFIX``.
    :raises ValueError: if there is no such broker.
    """
    if isinstance(setting, Broker):
        return setting

    if setting == "memory://":
        return MemoryBroker()

    # A URL may hold a password.
    scheme = setting.partition(":")[0] if isinstance(setting, str) else setting

    if scheme in REDIS_SCHEMES:
        from .redis import RedisBroker

        return RedisBroker(setting, prefix)

    raise ValueError(
        f"There is no broker for {scheme!r}. Set 'SOCKETS_BROKER' in the app's config"
        " to 'memory://', to a URL such as 'redis://localhost', or to a 'Broker' of"
        " your own."
    )
