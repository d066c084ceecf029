"""Redis stops, hangs, forgets, refuses, and cuts connections off. Workers and clients
are killed.

All tests share the servers and the clients, which have to bear one after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
import typing as t

import pytest

from .. import process
from ..redis_server import Sentinels
from .arena import IS_LONG, Arena, beside, promised, until
from .followers import HISTORY, PLAIN

pytestmark = [
    pytest.mark.xdist_group(__name__),
    pytest.mark.timeout(600 if IS_LONG else 120),
]

#: Seconds within which Redis' end is an error for publishers, and after its return
#: everything works again.
ERROR_WITHIN = 5
BACK_WITHIN = 2


@pytest.fixture(scope="module")
def sentinels(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Sentinels]:
    with Sentinels(tmp_path_factory.mktemp("redis")) as sentinels:
        yield sentinels


@pytest.fixture(scope="module")
def arena(sentinels: Sentinels) -> t.Iterator[Arena]:
    with Arena(sentinels.url, followers=50 if IS_LONG else 10) as arena:
        yield arena


async def expect_to_be_back(arena: Arena, trouble: str, **figures: object) -> None:
    """Expect the service to be back, and everybody to have all of it or to know."""
    start = time.monotonic()
    await arena.until_published()
    publishing = time.monotonic() - start
    await arena.catch_up()
    all_of_it = time.monotonic() - start
    await arena.until_connected()
    admitted, missing = arena.check()
    arena.note(
        trouble,
        publishing_again_after=publishing,
        all_have_caught_up_after=all_of_it,
        admitted_so_far=admitted,
        missing_so_far=missing,
        **figures,
    )
    promised(publishing, BACK_WITHIN, "publishing again")


@contextlib.asynccontextmanager
async def unnoticed(arena: Arena, returns: int = 0) -> t.AsyncIterator[None]:
    """Expect that no follower misses anything meanwhile, or is told that it may.

    :param returns: how often one of them connects again.
    """
    await arena.settle()
    connections, before = arena.connections(), arena.check()
    yield
    assert arena.check() == before
    assert arena.connections() == connections + returns


def test_sockets_stay_open_while_redis_hangs_and_miss_nothing(
    arena: Arena, sentinels: Sentinels
) -> None:
    async def run(seconds: float) -> None:
        failed = len(arena.publisher.failed)
        async with unnoticed(arena), arena.publishing():
            await asyncio.sleep(0.2)
            sentinels.master.pause()
            await asyncio.sleep(seconds)
            await until(lambda: len(arena.publisher.failed) > failed, "an error")
            sentinels.master.resume()
            await expect_to_be_back(
                arena,
                f"Redis hangs for {seconds:g} s",
                longest_wait_for_an_error=arena.longest_failure(failed),
            )
        promised(arena.longest_failure(failed), ERROR_WITHIN, "the error")

    for seconds in (3, 20) if IS_LONG else (1,):
        arena.run(run(seconds))


def test_nothing_is_missed_while_redis_cuts_off_who_listens(
    arena: Arena, sentinels: Sentinels
) -> None:
    async def run() -> None:
        async with unnoticed(arena):
            admin = sentinels.master.client()
            rounds = 60 if IS_LONG else 3
            async with arena.publishing():
                for _ in range(rounds):
                    await asyncio.sleep(1 if IS_LONG else 0.3)
                    admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                await expect_to_be_back(
                    arena, f"CLIENT KILL TYPE pubsub, {rounds} times"
                )

    arena.run(run())


def test_nothing_is_missed_with_little_room_in_redis_for_who_listens(
    arena: Arena, sentinels: Sentinels
) -> None:
    """Each message is larger than that, so that Redis cuts everybody off."""

    async def run() -> None:
        async with unnoticed(arena):
            admin = sentinels.master.client()
            opened = admin.info("stats")["total_connections_received"]
            admin.config_set("client-output-buffer-limit", "pubsub 1024 1024 1")
            async with arena.publishing(size=40_000):
                await asyncio.sleep(10 if IS_LONG else 1)
            admin.config_set("client-output-buffer-limit", "pubsub 32mb 8mb 60")
            opened = admin.info("stats")["total_connections_received"] - opened
            assert opened
            await expect_to_be_back(arena, "a tiny output buffer", opened_again=opened)

    arena.run(run())


def test_who_may_have_missed_something_is_told_when_redis_forgets_all(
    arena: Arena, sentinels: Sentinels
) -> None:
    async def run() -> None:
        admitted, _ = arena.check()
        async with arena.publishing():
            for _ in range(5 if IS_LONG else 1):
                await asyncio.sleep(0.5)
                sentinels.master.client().flushall()
                await asyncio.sleep(0.5)
            await expect_to_be_back(arena, "FLUSHALL")
        assert arena.check()[0] > admitted
        await arena.until_present()

    arena.run(run())


def test_a_restart_of_redis_is_survived_also_by_a_worker_that_starts_meanwhile(
    arena: Arena, sentinels: Sentinels
) -> None:
    async def run() -> None:
        await arena.settle()
        (admitted, _), failed = arena.check(), len(arena.publisher.failed)
        others = [f for f in arena.followers if f.pid != arena.followers[0].pid]
        count = sum(len(follower.ends) for follower in others)
        async with arena.publishing():
            await beside(sentinels.master.stop)
            os.kill(arena.followers[0].pid, signal.SIGKILL)
            await until(lambda: len(arena.publisher.failed) > failed, "an error")
            await asyncio.sleep(10 if IS_LONG else 1)
            assert sum(len(follower.ends) for follower in others) == count
            await beside(sentinels.master.start)
            await expect_to_be_back(
                arena,
                "Redis is restarted",
                longest_wait_for_an_error=arena.longest_failure(failed),
            )
        assert arena.check()[0] > admitted
        # Who came while Redis was away was told to come again.
        ends = {end for f in others for end in f.ends}
        assert ends <= {1012, 503, 1013}, ends
        promised(arena.longest_failure(failed), ERROR_WITHIN, "the error")
        await arena.until_present()

    arena.run(run())


def test_a_redis_that_is_full_says_so_and_what_needs_no_memory_goes_on(
    arena: Arena, sentinels: Sentinels
) -> None:
    async def run() -> None:
        async with unnoticed(arena):
            admin = sentinels.master.client()
            admin.config_set("maxmemory", 1)
            error = (await arena.publisher.publish(HISTORY[0])).error
            assert error is not None
            assert "maxmemory" in error
            for topic in PLAIN:
                assert (await arena.publisher.publish(topic)).error is None
                last = arena.publisher.published[topic][-1]
                await until(
                    lambda topic=topic, last=last: all(  # type: ignore[misc]
                        follower.newest(topic) == last for follower in arena.followers
                    ),
                    topic,
                )
            await expect_calm(arena, "Redis is full")
            admin.config_set("maxmemory", 0)
            await expect_to_be_back(arena, "Redis was full")

    arena.run(run())


def test_a_redis_that_wants_another_password_is_waited_for(
    arena: Arena, sentinels: Sentinels
) -> None:
    async def run() -> None:
        async with unnoticed(arena):
            admin = sentinels.master.client()
            admin.config_set("requirepass", "s3cret")
            for kind in ("pubsub", "normal"):
                admin.client_kill_filter(_type=kind, skipme=True)
            error = (await arena.publisher.publish(HISTORY[0])).error
            while error is not None and "closed by server" in error:
                error = (await arena.publisher.publish(HISTORY[0])).error
            assert error is not None
            assert "uthentication" in error
            logged = arena.wsrun.log.count("failed:")
            await expect_calm(arena, "Redis wants a password")
            assert arena.wsrun.log.count("failed:") <= logged + 1
            admin.config_set("requirepass", "")
            await expect_to_be_back(arena, "Redis wants no password again")

    arena.run(run())


async def expect_calm(arena: Arena, trouble: str) -> None:
    """Expect all servers together to take less than half of a processor."""
    used, start = arena.processor_seconds(), time.monotonic()
    await asyncio.sleep(20 if IS_LONG else 2)
    used = (arena.processor_seconds() - used) / (time.monotonic() - start)
    arena.note(trouble, part_of_a_processor=used)
    assert used < 0.5


def test_cut_off_clients_get_all_of_it(arena: Arena) -> None:
    async def run() -> None:
        rounds = 20 if IS_LONG else 3
        returns = rounds * len(arena.followers)
        async with unnoticed(arena, returns), arena.publishing():
            for _ in range(rounds):
                await asyncio.sleep(1 if IS_LONG else 0.1)
                arena.gate.clear()
                for follower in arena.followers:
                    follower.cut()
                await asyncio.sleep(2 if IS_LONG else 0.3)
                arena.gate.set()
                await arena.until_connected()
            await expect_to_be_back(arena, f"all clients are cut off {rounds} times")

    arena.run(run())


def test_the_clients_of_a_worker_that_is_killed_miss_nothing_and_its_members_leave(
    arena: Arena,
) -> None:
    async def run() -> None:
        before = arena.check()
        pid = next(f.pid for f in arena.followers if f.pid != arena.followers[2].pid)
        orphans = {f.member for f in arena.followers if f.pid == pid}
        async with arena.publishing():
            await asyncio.sleep(0.3)
            start = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            await until(
                lambda: all(f.pid not in (0, pid) for f in arena.followers),
                "the others",
            )
            await expect_to_be_back(arena, "a worker is killed")
        assert arena.check() == before
        await arena.until_present()
        gone = time.monotonic() - start
        arena.note("a worker is killed", its_members_are_gone_after=gone)
        promised(gone, 30, "the end of its members")
        reports = arena.reported_left()
        await until(lambda: orphans <= set(arena.reported_left()), "the reports")
        reports = [name for name in arena.reported_left() if name in orphans]
        assert sorted(reports) == sorted(orphans)

    arena.run(run())


def test_a_failover_that_loses_the_last_messages_is_admitted(
    arena: Arena, sentinels: Sentinels
) -> None:
    async def run() -> None:
        admitted, _ = arena.check()
        connections = len(sentinels.master.client().client_list())
        await beside(sentinels.cut_off_replica)
        for topic in HISTORY:
            await arena.publisher.publish(topic)
        async with arena.publishing():
            await beside(sentinels.fail_over)
            await expect_to_be_back(arena, "a failover")
        assert arena.check()[0] > admitted
        await arena.until_present()
        # The replica and the sentinel have some there, too.
        found = len(sentinels.replica.client().client_list())
        assert found <= connections + 2

    arena.run(run())


def test_nothing_is_left_when_all_have_gone(arena: Arena) -> None:
    """Of greenlets, threads and sockets, after all of that."""
    arena.run(arena.end())

    def is_as_before() -> bool:
        state = json.loads(arena.wsrun.get("/state").body)
        # Two connections to Redis, and who reads one of them.
        return all(state[name] <= arena.before[name] + 4 for name in state)

    process.until(is_as_before, "the end of what the clients needed")
    everybody = arena.reported_left()
    assert len(everybody) == len(set(everybody))
