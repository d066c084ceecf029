"""The connection on which a process hears what is published, and how it comes back.

One task reads it. A topic with a history is read from its last position on whenever
something may have been missed: after the connection was lost, or if a number is left
out. What can't be proven complete is given up, topic by topic.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import logging
import secrets
import threading
import time
import typing as t

from redis.exceptions import RedisError

from ..broker import BrokerUnavailable
from ..publication import Position
from . import scripts, stats
from .calls import MAX_WAIT, TIMEOUT
from .connecting import failure, reason_of
from .wire_format import Disconnect, MalformedMessage, TellStats, decode, decode_order

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ..broker import Receiver
    from ..history import Recovery
    from ..publication import Publication
    from ..rules import TopicOptions
    from .calls import Calls
    from .connecting import Connection

logger = logging.getLogger("flask_sockets.topics")

#: How long the task sleeps at most before it looks what else is to be done, in seconds.
TICK = 1.0

#: How long a topic that nobody wants any more stays subscribed, in seconds. A client
#: that loads the next page is back by then.
UNSUBSCRIBE_DELAY = 5.0

#: How often Redis is asked whether what is published still arrives, and how long it
#: may take, in seconds.
PROBE_INTERVAL = 5.0
PROBE_TIMEOUT = 5.0

#: How long to wait once more when the time is over, in seconds.
LAST_CHANCE = 0.05

#: How far attempts to connect are apart at least, in seconds.
RETRY_INTERVAL = 0.5

#: How many messages are taken in before they are handed on, and others may run.
MAX_MESSAGES = 500

#: How many channels one command subscribes to.
MAX_CHANNELS = 1000


class State(enum.Enum):
    """How far the subscription of a topic is."""

    #: Redis has not confirmed it.
    ASKED = enum.auto()
    #: Redis has confirmed it, but it isn't known what was published before.
    CONFIRMED = enum.auto()
    #: All that is published arrives.
    ACTIVE = enum.auto()


@dataclasses.dataclass(slots=True)
class _Topic:
    """A topic that this process hears."""

    options: TopicOptions
    #: How often it is subscribed to.
    count: int = 0
    state: State = State.ASKED
    #: The position of the newest publication that was received, if it has a history.
    place: Position | None = None
    #: When nobody wanted it any more, in the terms of :func:`time.monotonic`.
    unused_since: float = 0.0


class Listener:
    """What this process is subscribed to.

    :param connect: makes a connection that isn't open yet.
    :param calls: the other connection, which also wakes this one up.
    :param read: reads the history of topics, each from a position on.
    :param on_tick: called in the task, about once a second while it is connected. It
        says whether the task is needed although nothing is subscribed to.
    :param process: the id of this process.
    :param name: how the broker is called in errors, without its password.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        calls: Calls,
        receiver: Receiver,
        read: Callable[
            [Sequence[tuple[str, TopicOptions, Position | None]]],
            list[Recovery | BrokerUnavailable],
        ],
        on_tick: Callable[[], bool],
        prefix: str,
        process: str,
        name: str,
    ) -> None:
        self._connect = connect
        self._calls = calls
        self._receiver = receiver
        self._read = read
        self._on_tick = on_tick
        self._prefix = prefix
        self._name = name
        self._control = scripts.control_channel(prefix)
        # Whatever comes there wakes the task up, and shows that the connection works.
        self._own = f"{prefix}:process:{process}"
        self._topics: dict[str, _Topic] = {}
        # Topics that Redis is to be asked for.
        self._wanted: list[str] = []
        # Topics that Redis has confirmed. Those stay here that can't be read.
        self._confirmed: set[str] = set()
        self._changed = threading.Condition()
        # When Redis has been reached, or has sent something.
        self._heard_at = 0.0
        # How many wait until something is received.
        self._waiting = 0
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._is_connected = False
        # What is wrong, as a sentence, and whether somebody was told.
        self._problem = ""
        self._is_reported = False
        self._probe: bytes | None = None
        self._probed_at = 0.0

    # For anyone

    def subscribe(self, topics: Mapping[str, TopicOptions]) -> None:
        """Hear topics from the moment this returns.

        :raises BrokerUnavailable: if that can't be done in time.
        """
        start = time.monotonic()

        with self._changed:
            new = []

            for name, options in topics.items():
                topic = self._topics.get(name)

                if topic is None:
                    topic = self._topics[name] = _Topic(options)
                    new.append(name)

                topic.count += 1

            self._wanted += new
            is_ready = self._are_active(topics)

            if self._thread is None:
                self._start_thread()

        if is_ready:
            return

        try:
            if new and self._is_connected:
                self.wake()

            with self._changed:
                while not self._are_active(topics):
                    self._wait_for_change(start)
        except BaseException:
            self.unsubscribe(topics)
            raise

    def wait_for(self, name: str, position: Position) -> None:
        """Wait until a topic is received up to a position, if it is subscribed to.

        The other connection may be ahead of this one.

        :raises BrokerUnavailable: if that takes too long.
        """
        if self._thread is threading.current_thread():
            return  # A receiver of a signal. Nothing is received meanwhile.

        start = time.monotonic()

        with self._changed:
            self._waiting += 1

            try:
                while self._is_behind(name, position):
                    self._wait_for_change(start)
            finally:
                self._waiting -= 1

    def _is_behind(self, name: str, position: Position) -> bool:
        topic = self._topics.get(name)
        place = None if topic is None else topic.place
        # What comes of a new epoch comes along with the news that it is one.
        return (
            place is not None
            and place.epoch == position.epoch
            and place.offset < position.offset
        )

    def _wait_for_change(self, start: float) -> None:
        """Wait until the task has done something. Called under its lock.

        Where a process has more to do than it can, that takes longer, and is no reason
        to give up.

        :param start: when this is waited for, in the terms of :func:`time.monotonic`.
        :raises BrokerUnavailable: if it takes too long.
        """
        if self._changed.wait(max(0.0, self._give_up_at(start) - time.monotonic())):
            return

        # The time may be over only since nobody could run.
        self._changed.wait(LAST_CHANCE)

        if time.monotonic() >= self._give_up_at(start):
            raise BrokerUnavailable(
                self._problem or failure(self._name, "it doesn't answer in time")
            )

    def _give_up_at(self, start: float) -> float:
        if self._problem:
            return start + TIMEOUT

        return min(max(start, self._heard_at) + TIMEOUT, start + MAX_WAIT)

    def unsubscribe(self, topics: Iterable[str]) -> None:
        """Take back one :meth:`subscribe`. Doesn't wait."""
        now = time.monotonic()

        with self._changed:
            for name in topics:
                topic = self._topics.get(name)

                if topic is not None:
                    topic.count -= 1
                    topic.unused_since = now

    def keep_running(self) -> None:
        """See to it that the task runs, for the sake of what it does each second."""
        with self._changed:
            if self._thread is None:
                self._start_thread()

    def wake(self, token: bytes = b"wake") -> None:
        """Wake the task up.

        :raises BrokerUnavailable: if Redis can't be reached.
        """
        self._calls.call("PUBLISH", self._own, token)

    def close(self) -> None:
        """Hear nothing any more, and end the task."""
        with self._changed:
            self._is_closed = True
            self._topics.clear()
            thread = self._thread
            self._changed.notify_all()

        if thread is not None:
            with contextlib.suppress(BrokerUnavailable):
                self.wake()

            thread.join(TIMEOUT)

    def heard(self) -> dict[str, TopicOptions]:
        """The topics that this process hears."""
        with self._changed:
            return {name: topic.options for name, topic in self._topics.items()}

    def _are_active(self, topics: Iterable[str]) -> bool:
        return all(
            (topic := self._topics.get(name)) is not None
            and topic.state is State.ACTIVE
            for name in topics
        )

    def _start_thread(self) -> None:
        self._thread = threading.Thread(
            target=self._run, name="flask-sockets-broker", daemon=True
        )
        self._thread.start()

    # The task

    def _run(self) -> None:
        while not self._is_closed:
            next_attempt = time.monotonic() + RETRY_INTERVAL
            connection = self._connect()

            try:
                connection.connect()
                self._heard_at = time.monotonic()
                self._resubscribe(connection)

                if self._listen(connection):
                    return
            except (RedisError, OSError) as error:
                self._note_problem(failure(self._name, reason_of(error)))
            except BrokerUnavailable as error:
                self._note_problem(str(error))
            except Exception:
                logger.exception("Listening to the broker at %r failed.", self._name)
            finally:
                with self._changed:
                    # Another task may have taken the place of one that ends.
                    if self._thread is threading.current_thread():
                        self._is_connected = False
                        self._ask_for_all()

                connection.disconnect()

            with self._changed:
                if not self._is_closed:
                    # No pause behind a connection that has lasted.
                    self._changed.wait(max(0.0, next_attempt - time.monotonic()))

    def _note_problem(self, problem: str) -> None:
        """Tell once what is wrong, until all is well again."""
        self._problem = problem

        if not self._is_reported:
            self._is_reported = True
            logger.warning(
                "%s What is published meanwhile is read when it is back, if the topic"
                " has a history.",
                problem,
            )

    def _note_health(self) -> None:
        """All is well, if all topics are there."""
        with self._changed:
            if any(topic.state is not State.ACTIVE for topic in self._topics.values()):
                return

        self._problem = ""

        if self._is_reported:
            self._is_reported = False
            logger.warning("The broker at %r is back.", self._name)

    def _resubscribe(self, connection: Connection) -> None:
        self._calls.retry_now()

        with self._changed:
            self._ask_for_all()
            # From now on whoever wants another topic wakes the task up.
            self._is_connected = True

        self._probe = None
        self._probed_at = time.monotonic()
        connection.send_command("SUBSCRIBE", self._control, self._own)

    def _ask_for_all(self) -> None:
        """Want all topics anew, of which Redis knows nothing. Called under the lock."""
        for topic in self._topics.values():
            topic.state = State.ASKED

        self._wanted = list(self._topics)
        self._confirmed.clear()

    def _listen(self, connection: Connection) -> bool:
        """Take in what comes, until the connection is lost.

        :return: whether there is nothing left to listen to, so that the task ends.
        """
        next_tick = time.monotonic()

        while True:
            self._ask(connection)
            now = time.monotonic()

            if now >= next_tick or self._is_closed:
                next_tick = now + TICK

                if self._tick(connection, now):
                    return True

            if connection.can_read(timeout=max(0.0, next_tick - now)):
                self._take_in(connection)

    def _take_in(self, connection: Connection) -> None:
        """Take in what has come, and hand it on at once."""
        is_all = False
        has_confirmed = False

        try:
            for _ in range(MAX_MESSAGES):
                kind, channel, value = connection.read_response()
                self._heard_at = time.monotonic()

                if kind == b"message":
                    self._take_message(channel.decode(), value)
                elif kind == b"subscribe":
                    has_confirmed |= self._confirm(channel.decode())

                is_all = not connection.can_read(timeout=0)

                if is_all:
                    break
        finally:
            self._receiver.flush()

        if self._waiting:
            with self._changed:
                self._changed.notify_all()

        if has_confirmed:
            self._activate()

        if not is_all:
            # Reading what is there lets no greenlet run. Nor does a sleep of 0 let the
            # hub look at sockets.
            time.sleep(1e-9)

    def _ask(self, connection: Connection) -> None:
        """Ask Redis for the topics that are wanted."""
        if not self._wanted:
            return

        with self._changed:
            wanted, self._wanted = self._wanted, []

        for start in range(0, len(wanted), MAX_CHANNELS):
            names = wanted[start : start + MAX_CHANNELS]
            channels = [scripts.keys_of(self._prefix, name).channel for name in names]
            connection.send_command("SUBSCRIBE", *channels)

    def _confirm(self, channel: str) -> bool:
        name = scripts.topic_of(self._prefix, channel)
        topic = None if name is None else self._topics.get(name)

        if name is None or topic is None:
            return False

        topic.state = State.CONFIRMED
        self._confirmed.add(name)
        return True

    def _activate(self) -> None:
        """Find out what was published before Redis confirmed the subscriptions."""
        with self._changed:
            confirmed = {
                name: topic
                for name in self._confirmed
                if (topic := self._topics.get(name)) is not None
                and topic.state is State.CONFIRMED
            }

        self._confirmed.clear()
        self._recover(
            {name: topic for name, topic in confirmed.items() if topic.options.history}
        )
        self._receiver.flush()

        with self._changed:
            for name, topic in confirmed.items():
                if name not in self._confirmed:
                    topic.state = State.ACTIVE

            self._changed.notify_all()

    def _recover(self, topics: Mapping[str, _Topic]) -> None:
        """Hand on what was published to topics since their last position.

        Those that can't be read, as Redis refuses, are read again later. What comes
        meanwhile is in their history.
        """
        read = self._read([(name, t.options, t.place) for name, t in topics.items()])

        for (name, topic), recovery in zip(topics.items(), read, strict=True):
            if isinstance(recovery, BrokerUnavailable):
                topic.state = State.CONFIRMED
                self._confirmed.add(name)
                self._note_problem(str(recovery))
                continue

            if topic.place is not None:  # Somebody is subscribed.
                if recovery.recovered:
                    for publication in recovery.publications:
                        self._receiver.receive(publication)
                else:
                    self._receiver.lose(name)

            topic.place = recovery.position

    # What comes

    def _take_message(self, channel: str, data: bytes) -> None:
        try:
            name = scripts.topic_of(self._prefix, channel)

            if name is not None:
                self._take_publication(decode(name, data))
            elif channel == self._control:
                self._obey(decode_order(data))
            elif data == self._probe:
                self._probe = None
        except MalformedMessage as error:
            logger.warning("%s", error)

    def _obey(self, order: Disconnect | TellStats) -> None:
        if isinstance(order, Disconnect):
            self._receiver.disconnect(order.topic, order.code, order.reason)
            return

        with contextlib.suppress(BrokerUnavailable):  # Whoever has asked gives up.
            stats.tell(self._calls, self._prefix, order, self._receiver.stats())

    def _take_publication(self, publication: Publication) -> None:
        topic = self._topics.get(publication.topic)

        if topic is None:
            return

        place = publication.place

        if place is None:
            self._receiver.receive(publication)
            return

        if topic.state is not State.ACTIVE:
            return  # The history has it, and is read when all is confirmed.

        if topic.place is None or topic.place.epoch != place.epoch:
            # A topic with a history that this process knew nothing of, or a new epoch.
            is_next = topic.place is None
        elif place.offset <= topic.place.offset:
            return  # It was read from the history.
        else:
            is_next = place.offset == topic.place.offset + 1

        if is_next:
            self._receiver.receive(publication)
            topic.place = place  # Whoever waits for this may go on now.
        else:
            self._recover({publication.topic: topic})

    # What is done each second

    def _tick(self, connection: Connection, now: float) -> bool:
        """Do what time has come for.

        :return: whether there is nothing to listen to any more.
        """
        is_needed = False

        if not self._is_closed:
            self._forget_unused(connection, now)
            self._check(now)

            if self._confirmed:
                self._activate()

            is_needed = self._beat()

        with self._changed:
            if (self._topics or is_needed) and not self._is_closed:
                return False

            self._thread = None
            self._is_connected = False
            return True

    def _beat(self) -> bool:
        """Do what else is done each second.

        What Redis refuses to write is no reason to listen to it no longer.

        :return: whether the task is needed, whatever is subscribed to.
        """
        try:
            is_needed = self._on_tick()
        except BrokerUnavailable as error:
            self._note_problem(str(error))
            return True

        self._note_health()
        return is_needed

    def _forget_unused(self, connection: Connection, now: float) -> None:
        """Unsubscribe from what nobody has wanted for a while."""
        channels = []

        with self._changed:
            for name, topic in list(self._topics.items()):
                if (
                    topic.count <= 0
                    # Its confirmation would come behind the end of the subscription.
                    and topic.state is not State.ASKED
                    and now - topic.unused_since >= UNSUBSCRIBE_DELAY
                ):
                    del self._topics[name]
                    channels.append(scripts.keys_of(self._prefix, name).channel)

        for start in range(0, len(channels), MAX_CHANNELS):
            part = channels[start : start + MAX_CHANNELS]
            connection.send_command("UNSUBSCRIBE", *part)

    def _check(self, now: float) -> None:
        """See if what is published still comes.

        A connection can look alive for minutes although nothing arrives on it.

        :raises ConnectionError: if it doesn't.
        """
        if self._probe is not None:
            if now - self._probed_at >= PROBE_TIMEOUT:
                raise ConnectionError("nothing arrives any more")
        elif now - self._probed_at >= PROBE_INTERVAL:
            self._probed_at = now
            self._probe = secrets.token_bytes(8)
            self.wake(self._probe)
