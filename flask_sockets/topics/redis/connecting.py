"""From the URL of a broker to connections."""

from __future__ import annotations

import re
import typing as t
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

if t.TYPE_CHECKING:
    from collections.abc import Callable


class Connection(t.Protocol):
    """What is used of redis-py's connections, most of which has no annotations."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def can_read(self, timeout: float = ...) -> bool: ...
    def pack_commands(self, commands: t.Iterable[t.Any]) -> t.Any: ...
    def send_packed_command(self, command: t.Any) -> None: ...
    def send_command(self, *args: t.Any) -> None: ...
    def read_response(self) -> t.Any: ...


#: Schemes for which redis-py has another name.
_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}

SENTINEL = "redis+sentinel"

#: How long Redis may take to answer before a connection is given up, in seconds.
SOCKET_TIMEOUT = 2.0

#: Sentinels listen here if the URL doesn't say where.
SENTINEL_PORT = 26379


def connector(url: str) -> tuple[Callable[[], Connection], str]:
    """Find out how to connect.

    :return: a function that makes a connection which isn't open yet, and a name for
        the broker that holds no password.
    :raises ValueError: if there is no such URL.
    """
    scheme, separator, rest = url.partition("://")
    url = f"{_SCHEMES.get(scheme, scheme)}{separator}{rest}"
    name = without_password(f"{scheme}{separator}{rest}")
    options: dict[str, t.Any] = {
        "decode_responses": False,
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": SOCKET_TIMEOUT,
        # A connection that is made again in silence would hide what was missed.
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "health_check_interval": 0,
        # The older protocol: what is published comes as an answer like all others.
        "protocol": 2,
    }

    try:
        if scheme == SENTINEL:
            pool = _sentinel_pool(url, options)
        else:
            pool = redis.ConnectionPool.from_url(url, **options)
            pool.connection_kwargs.update(options)  # The URL may say otherwise.
    except ValueError as error:
        raise ValueError(
            f"The broker {name!r} in the config 'SOCKETS_BROKER' is no URL that can be"
            f" used: {error}"
        ) from None

    def connect() -> Connection:
        # Not one of the pool's own, which counts them and hands them to anyone.
        connection = pool.connection_class(**pool.connection_kwargs)
        return t.cast(Connection, connection)

    return connect, name


def without_password(url: str) -> str:
    """The URL for people to see."""
    # The last '@' before the path: a password may hold one.
    url = re.sub(r"(?<=://)[^/]*@", "***@", url)
    return re.sub(r"(?i)(?<=[?&])(password|username)=[^&]*", r"\1=***", url)


def reason_of(error: Exception) -> str:
    """What is wrong, for people to see."""
    if isinstance(error, MasterNotFoundError):
        # What it says names everything that redis-py knows of each sentinel.
        return "no sentinel that can be reached knows a master"

    return str(error)


def failure(name: str, reason: str) -> str:
    """The sentence about a broker that failed.

    :param name: how the broker is called, without its password.
    """
    return f"The broker at {name!r} failed: {reason.rstrip('.')}."


def _sentinel_pool(url: str, options: dict[str, t.Any]) -> redis.ConnectionPool:
    """Connections to the master that the sentinels name, also after a failover."""
    parts = urlsplit(url)
    credentials, _, addresses = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    service, _, db = parts.path.strip("/").partition("/")

    if not addresses or not service or (db and not db.isdecimal()):
        raise ValueError(
            "It has to look like 'redis+sentinel://host:26379,host:26379/service'."
        )

    sentinels = []

    for address in addresses.split(","):
        where = urlsplit(f"//{address}")
        sentinels.append((where.hostname or "localhost", where.port or SENTINEL_PORT))

    options = {**options, "db": int(db or 0)}

    if password or user:
        options.update(username=unquote(user) or None, password=unquote(password))

    of_sentinels = {
        name: options[name]
        for name in ("socket_timeout", "socket_connect_timeout", "retry")
    }
    manager: t.Any = Sentinel(sentinels, sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]
    return SentinelConnectionPool(service, manager, **options)  # type: ignore[no-untyped-call]
