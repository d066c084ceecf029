"""The topics of one app in this process: what WebSockets and the extension call."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import os
import time
import typing as t
import weakref
from collections.abc import Mapping

from werkzeug.exceptions import ServiceUnavailable
from werkzeug.routing import Map

from ..exceptions import ConnectionClosed
from ..signals import member_joined, member_left
from ..wire.closing import check_close
from .broker import Broker, BrokerUnavailable
from .broker_setting import make_broker
from .fanout import Fanout
from .history import Recovery
from .locks import new_native_lock
from .memory import MemoryBroker
from .names import check_name
from .presence import check_info
from .publication import Kind, Position, Publication, read_message
from .rules import Declaration, Overflow, Topic, TopicRules, check_count
from .subscriber import Subscriber
from .subscription import Subscription
from .turns import give_way

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flask import Flask
    from werkzeug.routing import BaseConverter

    from ..websocket import WebSocket
    from ..wire.connection import Connection
    from .broker import Receiver

    Since: t.TypeAlias = str | Mapping[str, str] | None

#: After how many publications other greenlets may run. They take some 20 ms.
PUBLICATIONS_PER_TURN = 1024

#: How long a publisher waits at most for sockets that don't come to being served, in
#: seconds.
MAX_PUBLISHER_WAIT = 5.0

#: How long the end of a handler waits for what tells that its members have left, in
#: seconds.
LEAVING_TIMEOUT = 5.0

#: What a client is told that can't be subscribed now.
TRY_AGAIN = (1013, "try again later")

#: When it may come again, in seconds, if it is told with HTTP.
RETRY_AFTER = 5


class LocalSockets:
    """The sockets of an app in this process, as its broker sees them.

    See :class:`.broker.Receiver`.
    """

    def __init__(
        self, app: Flask, fanout: Fanout, stats: Callable[[], Mapping[str, int]]
    ) -> None:
        self._app = app
        self.stats = stats
        self.receive = fanout.receive
        self.flush = fanout.flush
        self.disconnect = fanout.close

    def lose(self, topic: str) -> None:
        self.disconnect(topic, 1012, "messages may be lost")

    def member_left(self, topic: str, member: str, info: t.Any) -> None:
        tell_left(self._app, topic, member, info)


def tell_left(app: Flask, topic: str, member: str, info: t.Any) -> None:
    """Send the signal that a member has left, and never fail."""
    try:
        with app.app_context():
            member_left.send(app, topic=topic, member=member, info=info)
    except Exception:
        app.logger.exception(
            "A receiver of the signal 'member_left' failed, of the member %r of the"
            " topic %r.",
            member,
            topic,
        )


class AppTopics:
    """The topics of an app.

    The broker is made by the first use, so that a process that was forked before that
    shares nothing with its parent.
    """

    def __init__(self, app: Flask) -> None:
        self.rules = TopicRules()
        self._app = app
        self.forget()
        _instances.add(self)

    def forget(self) -> None:
        """Begin with nothing, as a new process does, also one that was forked."""
        self._lock = new_native_lock()
        self._broker: Broker | None = None
        self._fanout = Fanout(0, self._socket_closed)
        self._numbers = itertools.count(1)
        self._socket_count = 0
        self._has_warned = False

    @property
    def broker(self) -> Broker:
        """What brings publications to all processes.

        :raises ValueError: if the config names a broker that there isn't.
        """
        if self._broker is None:
            with self._lock:
                if self._broker is None:
                    self._fanout = Fanout(
                        self._app.config["SOCKETS_MAX_OUTBOX"], self._socket_closed
                    )
                    self._broker = self.start_broker(
                        LocalSockets(self._app, self._fanout, self.stats)
                    )

        return self._broker

    def start_broker(self, receiver: Receiver) -> Broker:
        """Start another broker as the config says, for somebody who isn't a socket.

        :raises ValueError: if the config names a broker that there isn't.
        """
        config = self._app.config
        broker = make_broker(config["SOCKETS_BROKER"], config["SOCKETS_PREFIX"])
        broker.start(receiver)
        return broker

    def declare(
        self,
        pattern: str,
        declaration: Declaration,
        converters: Mapping[str, type[BaseConverter]],
    ) -> None:
        """Declare topics.

        :param converters: those that the pattern may use besides the app's.
        """
        own = {
            name: converter
            for name, converter in converters.items()
            if converter is not Map.default_converters.get(name)
        }
        self.rules.add(pattern, declaration, {**self._app.url_map.converters, **own})

    # Publishing

    def publish(
        self, name: str, message: t.Any, sender: Subscriber | None = None
    ) -> None:
        """Publish a message.

        :param sender: the socket that doesn't get it.
        """
        self._publish(name, *read_message(message), sender)

    def publish_json(self, name: str, value: t.Any) -> None:
        """Publish a value as JSON."""
        self._publish(name, Kind.JSON, json.dumps(value).encode(), None)

    def _publish(
        self, name: str, kind: Kind, payload: bytes, sender: Subscriber | None
    ) -> None:
        topic = self.rules.match(name)
        limit = self._app.config["SOCKETS_MAX_OUTBOX"]

        if len(payload) > limit:
            raise ValueError(
                f"The message to the topic {name!r} has {len(payload)} bytes. At most"
                f" {limit} fit into the outbox of a socket: make it smaller, or set"
                " 'SOCKETS_MAX_OUTBOX' in the app's config."
            )

        broker = self.broker
        sender_id = ""

        if sender is not None and name in sender.groups:
            self._fanout.add_sender(sender)
            sender_id = sender.id

        broker.publish(Publication(name, kind, payload, sender_id), topic.options)
        count = self._fanout.count_published()

        if not count % PUBLICATIONS_PER_TURN or self._fanout.is_full:
            self._wait_for_turn()

    def _wait_for_turn(self) -> None:
        """Let those run who send what was published, if there is much of it."""
        give_up = time.monotonic() + MAX_PUBLISHER_WAIT

        while give_way() and self._fanout.is_full and time.monotonic() < give_up:
            pass

    def disconnect(self, name: str, code: int, reason: str) -> None:
        """Close all sockets that are subscribed to a topic, in all processes."""
        check_name(name)
        check_close(code, reason)
        self.broker.disconnect(name, code, reason)

    # Looking

    def history(self, name: str, limit: int) -> list[Publication]:
        """Read the last publications of a topic."""
        topic = self.rules.match(name)
        check_count(limit, "limit")
        _check_history(topic)
        return list(self.broker.read_history(name, topic.options, limit).publications)

    def presence(self, name: str, limit: int) -> dict[str, t.Any]:
        """List the members of a topic."""
        topic = self.rules.match(name)
        check_count(limit, "limit")
        _check_presence(topic)
        return self.broker.presence(name, limit)

    def stats(self) -> dict[str, int]:
        """What was counted in this process."""
        fanout = self._fanout
        return {
            "sockets": self._socket_count,
            "topics": fanout.topic_count,
            "subscriptions": fanout.subscription_count,
            **dataclasses.asdict(fanout.stats),
        }

    def count_socket(self, change: int) -> None:
        """Count a WebSocket of the app that was opened, 1, or has ended, -1."""
        with self._lock:
            self._socket_count += change

    # Subscribing

    def new_subscriber(self, connection: Connection) -> Subscriber:
        """Let a socket be known by an id."""
        self.broker  # noqa: B018 (the fan-out is made along with it)
        return Subscriber(connection, self._fanout, next(self._numbers))

    def subscribe(
        self,
        websocket: WebSocket,
        subscriber: Subscriber,
        names: Sequence[str],
        *,
        history: int,
        since: Since,
        envelope: bool,
        member: str | None,
        info: t.Any,
    ) -> Subscription:
        """Subscribe a WebSocket to topics.

        The app is asked first, then the broker, so that both can refuse with HTTP.
        """
        topics = self._check(names, history, member, info)
        self._warn_of_others(websocket.environ)
        new = [topic for topic in topics if topic.name not in subscriber.groups]
        limit = self._app.config["SOCKETS_MAX_TOPICS"]

        if len(subscriber.groups) + len(new) > limit:
            raise ValueError(
                f"A WebSocket can be subscribed to {limit} topics. For more of them,"
                " set 'SOCKETS_MAX_TOPICS' in the app's config."
            )

        for topic in new:
            topic.authorize()

        try:
            self._add(subscriber, new, envelope)

            try:
                recoveries = {
                    topic.name: self._recover(subscriber, topic, new, history, since)
                    for topic in topics
                    if topic.options.history
                }

                if member is not None:
                    for topic in topics:
                        self._join(subscriber, topic.name, member, info)

                websocket.ensure_accepted()
                subscriber.accept()
            except BaseException:
                self.unsubscribe(subscriber, [topic.name for topic in new])
                raise
        except BrokerUnavailable as error:
            if not websocket.accepted:
                raise ServiceUnavailable(retry_after=RETRY_AFTER) from error

            websocket.close(*TRY_AGAIN)
            raise ConnectionClosed(*TRY_AGAIN, websocket) from error

        subscriber.watch()
        self._fanout.open_later(subscriber, [topic.name for topic in new])
        reads = {topic.name: recoveries.get(topic.name) for topic in topics}
        is_all = all(read is not None and read.recovered for read in reads.values())
        return Subscription(
            self._fanout,
            subscriber,
            {
                name: None if read is None else str(read.position)
                for name, read in reads.items()
            },
            recovered=since is not None and is_all,
        )

    def _warn_of_others(self, environ: Mapping[str, t.Any]) -> None:
        """Say once if there are processes that hear nothing of this one's topics.

        :param environ: that of a request.
        """
        if not environ.get("wsgi.multiprocess") or self._has_warned:
            return

        self._has_warned = True

        if isinstance(self.broker, MemoryBroker):
            self._app.logger.warning(
                "The server has several processes, and what is published in this one"
                " reaches no socket of the others. Set 'SOCKETS_BROKER' in the app's"
                " config to the URL of a Redis, such as 'redis://localhost'."
            )

    def _check(
        self, names: Sequence[str], history: int, member: str | None, info: t.Any
    ) -> list[Topic]:
        """Find the topics, and what is wrong with the arguments."""
        if not names:
            raise TypeError("'subscribe()' needs at least one topic.")

        topics = [self.rules.match(name) for name in dict.fromkeys(names)]
        check_count(history, "history")

        if member is None:
            if info is not None:
                raise TypeError("The 'info' is about a member: give 'member' as well.")
        else:
            check_name(member, "member")
            check_info(info)

        for topic in topics:
            if history:
                _check_history(topic)

            if member is not None:
                _check_presence(topic)

        return topics

    def _add(
        self, subscriber: Subscriber, topics: Sequence[Topic], envelope: bool
    ) -> None:
        """Receive topics for a socket from now on. They are to be opened later."""
        broker = self.broker
        names = [topic.name for topic in topics]
        subscriber.uncounted += tuple(names)

        # Before the broker has subscribed, so that nothing is missed.
        for topic in topics:
            self._fanout.add(
                subscriber,
                topic.name,
                is_enveloped=envelope,
                overflow=Overflow(topic.options.overflow),
            )

        try:
            broker.subscribe({topic.name: topic.options for topic in topics})
        except BaseException:
            self._fanout.remove(subscriber, names)
            raise
        finally:
            done = set(names)
            subscriber.uncounted = tuple(
                name for name in subscriber.uncounted if name not in done
            )

        # The connection may have been closed meanwhile.
        broker.unsubscribe([name for name in names if name not in subscriber.groups])

    def _recover(
        self,
        subscriber: Subscriber,
        topic: Topic,
        new: Sequence[Topic],
        history: int,
        since: Since,
    ) -> Recovery:
        """Let a socket have what it missed of a topic."""
        options = topic.options

        if topic not in new:
            # It gets everything already.
            read = self.broker.read_history(topic.name, options, 0)
            return dataclasses.replace(read, recovered=True)

        text = since.get(topic.name) if isinstance(since, Mapping) else since
        position = Position.parse(text)
        read = self.broker.read_history(topic.name, options, history, position)
        is_all = self._fanout.put_before(subscriber, topic.name, read)
        return dataclasses.replace(read, recovered=read.recovered and is_all)

    def unsubscribe(self, subscriber: Subscriber, names: Sequence[str]) -> None:
        """End subscriptions of a socket."""
        for name in names:
            check_name(name)

        subscriber.settle()
        self._leave(subscriber, self._remove(subscriber, names))

    def end(self, subscriber: Subscriber) -> None:
        """The handler of a socket has returned, and so end its subscriptions."""
        self._leave(subscriber, self._remove(subscriber))

        if subscriber.leaving is not None:
            subscriber.leaving.join(LEAVING_TIMEOUT)

    def _socket_closed(self, subscriber: Subscriber) -> None:
        """The connection is closed. This must not block, so others do what might."""
        members = self._remove(subscriber)

        if members:
            subscriber.leaving = subscriber.connection.transport.spawn(
                functools.partial(self._leave, subscriber, members)
            )

    def _remove(
        self, subscriber: Subscriber, names: Sequence[str] | None = None
    ) -> dict[str, tuple[str, t.Any]]:
        """End subscriptions, and say as which members the socket is to leave."""
        if names is None:
            names = list(subscriber.groups)

        removed = self._fanout.remove(subscriber, names)
        counted = [name for name in removed if name not in subscriber.uncounted]

        if counted:
            self.broker.unsubscribe(counted)

        members = {}

        if subscriber.members is not None:
            for name in removed:
                if (member := subscriber.members.pop(name, None)) is not None:
                    members[name] = member

        return members

    # Presence

    def _join(
        self, subscriber: Subscriber, name: str, member: str, info: t.Any
    ) -> None:
        if subscriber.members is None:
            subscriber.members = {}

        before = subscriber.members.get(name)

        if before is not None and before[0] != member:
            self._leave(subscriber, {name: before})

        subscriber.members[name] = member, info

        if self.broker.join(name, member, info, subscriber.id):
            member_joined.send(self._app, topic=name, member=member, info=info)

        if name not in subscriber.groups:  # The connection was closed meanwhile.
            self._leave(subscriber, {name: (member, info)})

    def _leave(
        self, subscriber: Subscriber, members: Mapping[str, tuple[str, t.Any]]
    ) -> None:
        """Take a socket out of the presence of topics, and tell the app."""
        for name, (member, info) in members.items():
            try:
                has_left = self.broker.leave(name, member, subscriber.id)
            except BrokerUnavailable:
                continue  # It sees to that later.

            if has_left:
                tell_left(self._app, name, member, info)


def _check_history(topic: Topic) -> None:
    if not topic.options.history:
        raise ValueError(
            f"The topic {topic.name!r} has no history. Declare it with"
            " 'sockets.topic(..., history=50)'."
        )


def _check_presence(topic: Topic) -> None:
    if not topic.options.presence:
        raise ValueError(
            f"The topic {topic.name!r} knows no members. Declare it with"
            " 'sockets.topic(..., presence=True)'."
        )


_instances: weakref.WeakSet[AppTopics] = weakref.WeakSet()


def _forget_all() -> None:
    """A forked process has its parent's subscribers and histories in memory."""
    for topics in list(_instances):
        topics.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
