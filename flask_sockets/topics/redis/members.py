"""Who is there, in all processes: one heartbeat for each process, none for sockets.

A process that stops without a word is missed by the others. One of them takes its
members away, and tells its app that they left.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import typing as t

from . import scripts

if t.TYPE_CHECKING:
    from ..broker import Receiver
    from .calls import Argument, Calls

logger = logging.getLogger("flask_sockets.topics")

#: How often a process says that it lives, in seconds.
HEARTBEAT_INTERVAL = 5.0

#: After how many seconds without a heartbeat a process counts as dead.
DEAD_AFTER = 20.0

#: How long one process has to take the members of a dead one away, in seconds.
REAP_TIME = 30

#: What is known of members is forgotten after so many seconds, unless a process with
#: members of that topic renews it, which it does four times as often.
LIFETIME = 7200

#: How many members of a dead process are taken away at once.
BATCH = 500


class Member(t.NamedTuple):
    """A socket of a member of a topic."""

    topic: str
    member: str
    socket: str

    def encode(self) -> str:
        return json.dumps(self)

    @classmethod
    def decode(cls, data: bytes) -> Member:
        return cls(*json.loads(data))


class MemberList:
    """The members of all topics, and those that this process has brought.

    :param process: the id of this process.
    """

    def __init__(
        self, calls: Calls, receiver: Receiver, prefix: str, process: str
    ) -> None:
        self._calls = calls
        self._receiver = receiver
        self._prefix = prefix
        self._process = process
        # The processes with members, by the time of their last heartbeat.
        self._processes = f"{prefix}:processes"
        self._own: dict[Member, t.Any] = {}
        # Those that have left while Redis was away.
        self._gone: set[Member] = set()
        self._lock = threading.Lock()
        self._next_heartbeat = 0.0
        self._next_renewal = time.monotonic() + LIFETIME / 4

    def __bool__(self) -> bool:
        return bool(self._own or self._gone)

    def join(self, member: Member, info: t.Any) -> bool:
        with self._lock:
            self._own[member] = info
            self._gone.discard(member)
        try:
            return self._tell([(member, info)])[0]
        except BaseException:
            with self._lock:
                self._own.pop(member, None)
            raise

    def leave(self, member: Member) -> bool:
        with self._lock:
            self._own.pop(member, None)
        try:
            return self._take_away(member)
        except BaseException:
            with self._lock:
                self._gone.add(member)  # For the next heartbeat.
            raise

    def read(self, topic: str, limit: int) -> dict[str, t.Any]:
        keys = scripts.keys_of(self._prefix, topic)
        found = self._calls.run(
            scripts.MEMBERS, [keys.order, keys.infos], limit, keys.sockets
        )
        names, infos = found[::2], found[1::2]
        return {
            name.decode(): json.loads(info)
            for name, info in zip(names, infos, strict=True)
        }

    def beat(self) -> None:
        """Say that this process lives, if it is time, and look for dead ones."""
        now = time.monotonic()
        if not self or now < self._next_heartbeat:
            return
        self._next_heartbeat = now + HEARTBEAT_INTERVAL
        seconds, _ = self._calls.call("TIME")
        redis_now = int(seconds)
        is_new, dead = self._calls.call_all(
            [
                ("ZADD", self._processes, redis_now, self._process),
                (
                    *("ZRANGEBYSCORE", self._processes),
                    *("-inf", redis_now - DEAD_AFTER),
                ),
            ]
        )
        if is_new:
            # Redis has forgotten everything, or this process was taken for dead.
            with self._lock:
                own = list(self._own.items())
            self._tell(own)
        elif now >= self._next_renewal:
            self._renew()
        with self._lock:
            gone = list(self._gone)
        for member in gone:
            if self._take_away(member):
                self._receiver.member_left(member.topic, member.member, None)
            with self._lock:
                self._gone.discard(member)
        for process in dead:
            self._reap(process.decode())

    # What is told to Redis

    def _members_of(self, process: str) -> str:
        return f"{self._prefix}:process:{process}:members"

    def _tell(self, members: t.Sequence[tuple[Member, t.Any]]) -> list[bool]:
        """Say which members this process has.

        What a dead process has brought is noted first, so that it is never forgotten.
        """
        commands: list[tuple[Argument, ...]] = []
        for member, info in members:
            keys = scripts.keys_of(self._prefix, member.topic)
            own = self._members_of(self._process)
            commands += [
                ("SADD", own, member.encode()),
                ("EXPIRE", own, LIFETIME),
                self._calls.script(
                    scripts.JOIN,
                    [
                        *(keys.order, keys.infos),
                        *(keys.sockets + member.member, keys.counter),
                    ],
                    *(member.member, member.socket, json.dumps(info), LIFETIME),
                ),
            ]
        # So that others look after it before its first heartbeat.
        seconds, _ = self._calls.call("TIME")
        commands.append(("ZADD", self._processes, "NX", int(seconds), self._process))
        commands.append(("EXPIRE", self._processes, LIFETIME))
        return [bool(result) for result in self._calls.call_all(commands)[2:-2:3]]

    def _take_away(self, member: Member) -> bool:
        """Say that a socket of this process has left, and return whether that was the
        last one of the member.
        """
        is_gone, _ = self._calls.call_all(
            [
                self._leaving(member),
                ("SREM", self._members_of(self._process), member.encode()),
            ]
        )
        return bool(is_gone)

    def _leaving(self, member: Member) -> tuple[Argument, ...]:
        keys = scripts.keys_of(self._prefix, member.topic)
        return self._calls.script(
            scripts.LEAVE,
            [keys.order, keys.infos, keys.sockets + member.member],
            *(member.member, member.socket),
        )

    def _renew(self) -> None:
        self._next_renewal = time.monotonic() + LIFETIME / 4
        with self._lock:
            own = list(self._own)
        keys = {self._members_of(self._process), self._processes}
        for member in own:
            names = scripts.keys_of(self._prefix, member.topic)
            keys |= {names.order, names.infos, names.counter}
            keys.add(names.sockets + member.member)
        self._calls.call_all([("EXPIRE", key, LIFETIME) for key in sorted(keys)])

    def _reap(self, process: str) -> None:
        """Take the members of a dead process away, unless another process does."""
        mine = self._calls.call(
            "SET",
            f"{self._prefix}:reap:{process}",
            self._process,
            "NX",
            "EX",
            REAP_TIME,
        )
        if not mine:
            return
        key = self._members_of(process)
        while batch := self._calls.call("SRANDMEMBER", key, BATCH):
            members = [Member.decode(data) for data in batch]
            gone = self._calls.call_all([self._leaving(member) for member in members])
            for member, is_gone in zip(members, gone, strict=True):
                if is_gone:
                    self._receiver.member_left(member.topic, member.member, None)
            self._calls.call("SREM", key, *batch)
        self._calls.call("ZREM", self._processes, process)
        logger.info("Took the members of a process away that has ended: %s.", process)
