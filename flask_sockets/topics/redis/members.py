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

from ..broker import BrokerUnavailable
from . import scripts

if t.TYPE_CHECKING:
    from ..broker import Receiver
    from .calls import Argument, Calls

logger = logging.getLogger("flask_sockets.topics")

#: How often a process says that it lives, in seconds.
HEARTBEAT_INTERVAL = 4.0

#: How often a process looks for dead ones, in seconds.
LOOK_INTERVAL = 2.0

#: After how many seconds without a heartbeat a process is suspected, and after how many
#: more it counts as dead. Along with the intervals that is less than 30 seconds.
SILENT_AFTER = 12
DEAD_AFTER = 8

#: How long one process has to take the members of a dead one away, in seconds.
REAP_TIME = 30

#: What is known of members is forgotten after so many seconds, unless a process with
#: members of that topic renews it, which it does four times as often.
LIFETIME = 7200

#: How many members are told of, or taken away, at once.
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
        # The members to take away when Redis is back, and whether the app knew of them.
        self._gone: dict[Member, bool] = {}
        # Whether Redis may know something else than this process.
        self._is_forgotten = False
        self._run_id = ""
        self._lock = threading.Lock()
        self._next_heartbeat = 0.0
        self._next_look = 0.0
        self._next_renewal = time.monotonic() + LIFETIME / 4

    def __bool__(self) -> bool:
        return bool(self._own or self._gone)

    def join(self, member: Member, info: t.Any) -> bool:
        with self._lock:
            self._own[member] = info
            self._gone.pop(member, None)

        try:
            return self._tell([(member, info)])[0]
        except BaseException:
            with self._lock:
                self._own.pop(member, None)
                self._gone[member] = False  # Redis may have done it.

            raise

    def leave(self, member: Member) -> bool:
        with self._lock:
            self._own.pop(member, None)

        try:
            return self._take_away(member) is not None
        except BaseException:
            with self._lock:
                self._gone[member] = True

            raise

    def read(self, topic: str, limit: int) -> dict[str, t.Any]:
        for process in self._find_dead(time.monotonic()):
            self._reap(process)

        keys = scripts.keys_of(self._prefix, topic)
        found = self._calls.run(
            scripts.MEMBERS, [keys.order, keys.infos], limit, keys.sockets
        )
        names, infos = found[::2], found[1::2]
        return {
            name.decode(): json.loads(info)
            for name, info in zip(names, infos, strict=True)
        }

    def beat(self, now: float) -> None:
        """Say that this process lives, if it is time, and look for dead ones.

        :param now: what :func:`time.monotonic` says.
        """
        if self and now >= self._next_heartbeat:
            seconds, _ = self._calls.call("TIME")

            if self._calls.call("ZADD", self._processes, int(seconds), self._process):
                # Redis has forgotten everything, or this process was taken for dead.
                self._is_forgotten = True

            if self._run_id not in ("", self._calls.run_id):
                self._is_forgotten = True  # Another one, which may lag behind.

            self._run_id = self._calls.run_id

            if self._is_forgotten:
                self._tell_all()
            elif now >= self._next_renewal:
                self._renew()

            self._take_gone_away()
            self._next_heartbeat = now + HEARTBEAT_INTERVAL

        for process in self._find_dead(now):
            # What the app does then may take long.
            threading.Thread(target=self._reap, args=(process,), daemon=True).start()

    def _find_dead(self, now: float) -> list[str]:
        """The processes that have ended without a word, if it is time to look."""
        with self._lock:
            if now < self._next_look:
                return []

            self._next_look = now + LOOK_INTERVAL

        keys = [self._processes, f"{self._processes}:silent"]
        dead = self._calls.run(scripts.DEAD, keys, SILENT_AFTER, DEAD_AFTER, LIFETIME)
        return [process.decode() for process in dead]

    def _tell_all(self) -> None:
        with self._lock:
            own = list(self._own.items())

        for start in range(0, len(own), BATCH):
            self._tell(own[start : start + BATCH])

        # Some of them may have left meanwhile, or Redis has forgotten that they had.
        told = self._calls.call("SMEMBERS", self._members_of(self._process))

        with self._lock:
            self._is_forgotten = False

            for data in told:
                member = Member.decode(data)

                if member not in self._own:
                    self._gone.setdefault(member, False)

    def _take_gone_away(self) -> None:
        with self._lock:
            gone = [(m, known) for m, known in self._gone.items() if m not in self._own]

        for member, is_known in gone:
            info = self._take_away(member)

            if info is not None and is_known:
                self._tell_app(member, info)

            with self._lock:
                self._gone.pop(member, None)

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
        results = self._calls.call_all(commands)

        with self._lock:
            if results[-2] and len(self._own) > len(members):
                # The next heartbeat tells of the members from before.
                self._is_forgotten = True
                self._next_heartbeat = 0.0

        return [bool(result) for result in results[2:-2:3]]

    def _take_away(self, member: Member) -> bytes | None:
        """Say that a socket of this process has left.

        :return: the info that it brought, as JSON, if it was the last one of the
            member.
        """
        info, _ = self._calls.call_all(
            [
                self._leaving(member),
                ("SREM", self._members_of(self._process), member.encode()),
            ]
        )
        return t.cast("bytes | None", info)

    def _tell_app(self, member: Member, info: bytes) -> None:
        self._receiver.member_left(member.topic, member.member, json.loads(info))

    def _leaving(self, member: Member) -> tuple[Argument, ...]:
        keys = scripts.keys_of(self._prefix, member.topic)
        return self._calls.script(
            scripts.LEAVE,
            [keys.order, keys.infos, keys.sockets + member.member],
            *(member.member, member.socket),
        )

    def _renew(self) -> None:
        with self._lock:
            own = list(self._own)

        keys = {self._members_of(self._process), self._processes}

        for member in own:
            names = scripts.keys_of(self._prefix, member.topic)
            keys |= {names.order, names.infos, names.counter}
            keys.add(names.sockets + member.member)

        names_of_all = sorted(keys)

        for start in range(0, len(names_of_all), BATCH):
            part = names_of_all[start : start + BATCH]
            self._calls.call_all([("EXPIRE", key, LIFETIME) for key in part])

        self._next_renewal = time.monotonic() + LIFETIME / 4

    def _reap(self, process: str) -> None:
        """Take the members of a dead process away, unless another process does.

        What is left of them, if this fails, is taken away later.
        """
        try:
            self._take_all_away(process)
        except BrokerUnavailable as error:
            logger.warning("Members of a process that has ended are left: %s", error)

    def _take_all_away(self, process: str) -> None:
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
            infos = self._calls.call_all([self._leaving(member) for member in members])

            for member, info in zip(members, infos, strict=True):
                if info is not None:
                    self._tell_app(member, info)

            self._calls.call("SREM", key, *batch)

        self._calls.call("ZREM", self._processes, process)
        self._calls.call("HDEL", f"{self._processes}:silent", process)
        logger.info("Took the members of a process away that has ended: %s.", process)
