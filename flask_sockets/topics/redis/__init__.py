"""The broker for several processes and machines, on Redis or Valkey.

Pub/Sub brings publications to each process, its own included, so that there is one
order. A stream exists only for topics with a history.
"""

from __future__ import annotations

import secrets
import sys
import time
import typing as t

try:
    import redis  # noqa: F401
except ImportError as error:
    raise ImportError(
        "The broker 'redis://' needs the package 'redis', which is not installed:"
        ' "pip install Flask-Sockets[redis]" brings it.'
    ) from error

from ..broker import Broker, BrokerUnavailable, CollectedStats, Receiver
from ..history import Recovery
from ..publication import Position
from . import scripts, stats, wire_format
from .calls import RUN_ID, Calls
from .connecting import connector
from .listener import Listener
from .members import Member, MemberList

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..publication import Publication
    from ..rules import TopicOptions
    from .calls import Argument

    R = t.TypeVar("R")

#: How often the positions of topics that are heard are kept from being forgotten, in
#: seconds.
RENEW_INTERVAL = scripts.GRACE / 4


class RedisBroker(Broker):
    """Reaches every process that uses the same Redis and the same prefix.

    It has one connection to publish and, once something is subscribed to, one to
    listen, which a thread reads; in a process that gevent has patched, a greenlet.

    :param url: ``redis://``, ``rediss://``, ``valkey://``, ``valkeys://`` or
        ``unix://``, as for :meth:`redis.Redis.from_url`, or
        ``redis+sentinel://[user:password@]host:port,host:port/service[/db]``.
    :param prefix: what the names of all keys and channels begin with.
    :raises ValueError: if there is no such URL.
    """

    def __init__(self, url: str, prefix: str = "sockets") -> None:
        self._connect, self._name = connector(url)
        self._prefix = prefix

    def start(self, receiver: Receiver) -> None:
        super().start(receiver)
        process = secrets.token_hex(8)
        self._calls = Calls(self._connect, self._name)
        self._members = MemberList(self._calls, receiver, self._prefix, process)
        self._listener = Listener(
            self._connect,
            self._calls,
            receiver,
            self._read_several,
            self._tick,
            self._prefix,
            process,
            self._name,
        )
        self._next_renewal = time.monotonic() + RENEW_INTERVAL

    def close(self) -> None:
        self._listener.close()
        self._calls.close()

    def publish(self, publication: Publication, options: TopicOptions) -> None:
        keys = scripts.keys_of(self._prefix, publication.topic)

        if not options.history:
            message = wire_format.encode_plain(publication)
            _wait_beside_the_hub(self._calls.call, "PUBLISH", keys.channel, message)
            return

        head, sender = wire_format.encode(publication)
        _wait_beside_the_hub(
            self._calls.run,
            scripts.PUBLISH,
            [keys.meta, keys.stream],
            *_epoch_arguments(options),
            *(keys.channel, options.history, _whole_seconds(options.ttl)),
            *(head, sender, publication.payload),
        )

    def subscribe(self, topics: Mapping[str, TopicOptions]) -> None:
        _wait_beside_the_hub(self._listener.subscribe, topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self._listener.unsubscribe(topics)

    def read_history(
        self,
        topic: str,
        options: TopicOptions,
        limit: int,
        since: Position | None = None,
    ) -> Recovery:
        return _wait_beside_the_hub(self._read, topic, options, limit, since)

    def join(self, topic: str, member: str, info: t.Any, socket: str) -> bool:
        joined = _wait_beside_the_hub(
            self._members.join, Member(topic, member, socket), info
        )
        self._listener.keep_running()  # For the heartbeat.
        return joined

    def leave(self, topic: str, member: str, socket: str) -> bool:
        return _wait_beside_the_hub(self._members.leave, Member(topic, member, socket))

    def presence(self, topic: str, limit: int) -> dict[str, t.Any]:
        return _wait_beside_the_hub(self._members.read, topic, limit)

    def disconnect(self, topic: str, code: int, reason: str) -> None:
        order = wire_format.Disconnect(topic, code, reason).encode()
        control = scripts.control_channel(self._prefix)
        _wait_beside_the_hub(self._calls.call, "PUBLISH", control, order)

    def collect_stats(self) -> CollectedStats:
        return _wait_beside_the_hub(stats.collect, self._calls, self._prefix)

    # Reading

    def _read(
        self, topic: str, options: TopicOptions, limit: int, since: Position | None
    ) -> Recovery:
        command = self._reading(topic, options, limit, since)
        recovery = self._recovery(topic, self._calls.call(*command))
        self._listener.wait_for(topic, recovery.position)
        return recovery

    def _read_several(
        self, topics: Sequence[tuple[str, TopicOptions, Position | None]]
    ) -> list[Recovery | BrokerUnavailable]:
        commands = [
            self._reading(topic, options, 0, since) for topic, options, since in topics
        ]
        answers = self._calls.try_all(commands) if commands else []
        return [
            answer
            if isinstance(answer, BrokerUnavailable)
            else self._recovery(topic, answer)
            for (topic, _, _), answer in zip(topics, answers, strict=True)
        ]

    def _reading(
        self, topic: str, options: TopicOptions, limit: int, since: Position | None
    ) -> tuple[Argument, ...]:
        keys = scripts.keys_of(self._prefix, topic)
        epoch, offset = ("", 0) if since is None else since
        return self._calls.script(
            scripts.READ,
            [keys.meta, keys.stream],
            *_epoch_arguments(options),
            *(_whole_seconds(options.ttl), epoch, offset, limit),
        )

    def _recovery(self, topic: str, answer: t.Any) -> Recovery:
        epoch, offset, recovered, entries = answer
        return Recovery(
            [wire_format.decode(topic, entry) for entry in entries],
            Position(epoch.decode(), offset),
            bool(recovered),
        )

    # What the listener's task does each second

    def _tick(self) -> bool:
        now = time.monotonic()
        self._members.beat(now)

        if now >= self._next_renewal:
            commands: list[tuple[Argument, ...]] = [
                (
                    "EXPIRE",
                    scripts.keys_of(self._prefix, topic).meta,
                    _lifetime(options),
                )
                for topic, options in self._listener.heard().items()
                if options.history
            ]

            if commands:
                self._calls.call_all(commands)

            self._next_renewal = now + RENEW_INTERVAL

        return bool(self._members)


def _whole_seconds(seconds: float) -> int:
    return max(1, round(seconds))


def _lifetime(options: TopicOptions) -> int:
    """For how many seconds the position of a topic is remembered."""
    return _whole_seconds(options.ttl) + scripts.GRACE


def _epoch_arguments(options: TopicOptions) -> tuple[Argument, ...]:
    """What the scripts need to know whether a new epoch begins."""
    return RUN_ID, secrets.token_hex(8), _lifetime(options)


def _wait_beside_the_hub(function: Callable[..., R], *args: t.Any) -> R:
    """Call something that waits for Redis, and let other greenlets run meanwhile.

    In a process that gevent has patched, the sockets of redis-py do that. In one that
    has greenlets but isn't patched, such a wait would stop all of them: gevent's pool
    of threads does the waiting.
    """
    gevent: t.Any = sys.modules.get("gevent")

    if gevent is None or not isinstance(gevent.getcurrent(), gevent.Greenlet):
        return function(*args)

    if sys.modules["gevent.monkey"].is_module_patched("socket"):
        return function(*args)

    return t.cast("R", gevent.get_hub().threadpool.apply(function, args))
