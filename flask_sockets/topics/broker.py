"""What brings publications to every process: the interface of brokers."""

from __future__ import annotations

import abc
import dataclasses
import os
import socket
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .history import Recovery
    from .publication import Position, Publication
    from .rules import TopicOptions


class BrokerUnavailable(Exception):
    """The broker can't be reached, or doesn't do what it was asked for.

    What was to be published has reached nobody in this process. Try again later.

    .. versionadded:: 1.0
    """


@dataclasses.dataclass(frozen=True)
class ProcessStats:
    """What was counted in one process."""

    #: The name of the machine.
    host: str
    pid: int
    #: As :meth:`.Sockets.stats` returns them.
    counts: Mapping[str, int]

    @classmethod
    def of_this_process(cls, counts: Mapping[str, int]) -> ProcessStats:
        return cls(socket.gethostname(), os.getpid(), counts)


class CollectedStats(t.NamedTuple):
    """What was counted in all processes that a broker reaches."""

    processes: Sequence[ProcessStats]
    #: How many processes were asked and didn't answer in time.
    silent: int = 0


class Receiver(t.Protocol):
    """The sockets of this process, as a broker sees them.

    All of this may be called from any thread and any greenlet, and none of it waits.
    """

    def receive(self, publication: Publication) -> None:
        """Take a publication to a topic that this process is subscribed to.

        The order of the calls is the order in which sockets get the publications. So
        the calls for one topic must not overlap, and a broker may hold a lock of its
        own meanwhile. Nothing is sent before :meth:`flush`.
        """

    def flush(self) -> None:
        """Send what was received. The broker must hold no lock now.

        Call this once after all that has come at the same time: that is sent at once.
        """

    def lose(self, topic: str) -> None:
        """Admit that publications to a topic may be lost for this process.

        Its sockets are closed with 1012, and come back to read what they missed.
        """

    def disconnect(self, topic: str, code: int, reason: str) -> None:
        """Close the sockets of this process that are subscribed to a topic."""

    def member_left(self, topic: str, member: str, info: t.Any) -> None:
        """Tell the app of a member whose process has ended without telling it.

        Of members whose last socket leaves in the ordinary way :meth:`.Broker.leave`
        tells, which was called for it.
        """

    def stats(self) -> Mapping[str, int]:
        """What was counted in this process."""


class Broker(abc.ABC):
    """Brings publications to every process that has subscribers, in one order.

    What a process publishes comes back to the process itself in the same way as to the
    others, through :meth:`.Receiver.receive`: that makes the order the same everywhere.

    All methods but :meth:`start` may be called from several threads and greenlets at
    the same time. They may wait, unless they say otherwise, and while they do other
    greenlets have to run. Those that may wait raise :exc:`BrokerUnavailable` when that
    takes too long, 5 seconds for example.

    Names of topics were checked, and have at most 255 bytes of UTF-8.

    .. versionadded:: 1.0
    """

    #: The sockets of this process.
    receiver: Receiver

    def start(self, receiver: Receiver) -> None:
        """Get to know the sockets of this process.

        Called once, before any other method, and again in a process that was forked.
        Nothing of the parent may be used in that one: forget connections without
        closing them, and memory of subscriptions and members.

        Don't connect here: the process may never publish, and has to start while the
        broker is away.
        """
        self.receiver = receiver

    def close(self) -> None:  # noqa: B027 (not every broker has anything to do)
        """End connections and tasks. Nothing is called after this but :meth:`start`.

        A server needn't call it: the process ends anyway.
        """

    @abc.abstractmethod
    def publish(self, publication: Publication, options: TopicOptions) -> None:
        """Send a publication to all processes that are subscribed to its topic.

        If ``options.history`` isn't 0, the publication gets a position, and is kept as
        the options say. Two publications of one topic get their positions in the order
        in which they are received everywhere.

        :raises BrokerUnavailable: if it can't be published. Nobody may get it then,
            unless the broker can't know what became of it.
        """

    @abc.abstractmethod
    def subscribe(self, topics: Mapping[str, TopicOptions]) -> None:
        """Receive what is published to topics from the moment this returns.

        The options say which topics have a history. After an interruption a broker
        reads those from the last position on, so that nothing is missing.

        Called for each socket. Calls have to be counted: a topic is received until
        :meth:`unsubscribe` was called for it as often as this.

        :param topics: the options of each topic.
        :raises BrokerUnavailable: if that can't be done now. None of the topics counts
            then.
        """

    @abc.abstractmethod
    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Take back one :meth:`subscribe` for each of the topics.

        This must not wait and can't fail: it is called when a socket has ended.
        """

    @abc.abstractmethod
    def read_history(
        self,
        topic: str,
        options: TopicOptions,
        limit: int,
        since: Position | None = None,
    ) -> Recovery:
        """Read what was published to a topic with history.

        If the broker can prove that it still has everything after ``since``, that is
        returned, with ``recovered`` true. If it can't, or ``since`` is ``None``, the
        last ``limit`` publications are, with ``recovered`` false.

        The position that is returned belongs to the newest publication; if there was
        none yet it has the offset 0. A broker that might have lost anything begins a
        new epoch.

        If the topic is subscribed to, all that is returned was given to
        :meth:`.Receiver.receive` before, as far as it was published after the topic was
        subscribed to. So nothing of it comes once more.

        :param options: those of the topic, whose ``history`` isn't 0.
        :raises BrokerUnavailable: if it can't be read now.
        """

    @abc.abstractmethod
    def join(self, topic: str, member: str, info: t.Any, socket: str) -> bool:
        """Add a socket of a member to a topic, or change the info it brought.

        :param info: what :func:`json.dumps` has a form for.
        :param socket: the id of the socket, unique among all processes.
        :return: whether the member wasn't there before, with any socket.
        :raises BrokerUnavailable: if that can't be done now.
        """

    @abc.abstractmethod
    def leave(self, topic: str, member: str, socket: str) -> bool:
        """Take a socket of a member away. Does nothing if it isn't there.

        :return: whether that was the last socket of the member.
        :raises BrokerUnavailable: if that can't be done now. The broker sees to it
            that the member is gone later.
        """

    @abc.abstractmethod
    def presence(self, topic: str, limit: int) -> dict[str, t.Any]:
        """The members of a topic in all processes, each with its latest info.

        :param limit: how many to list at most.
        :raises BrokerUnavailable: if that can't be found out now.
        """

    @abc.abstractmethod
    def disconnect(self, topic: str, code: int, reason: str) -> None:
        """Call :meth:`.Receiver.disconnect` in all processes.

        :raises BrokerUnavailable: if they can't be told now.
        """

    def collect_stats(self) -> CollectedStats:
        """What was counted in each process that is subscribed to anything.

        A broker that knows no other process tells of this one.

        :raises BrokerUnavailable: if they can't be asked now.
        """
        here = ProcessStats.of_this_process(self.receiver.stats())
        return CollectedStats([here])
