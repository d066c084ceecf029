"""The broker on Redis: the contract of brokers on the servers that people run, and
what is Redis' own.
"""

from __future__ import annotations

import itertools
import threading
import types
import typing as t

import pytest

from flask_sockets.topics.broker import BrokerUnavailable
from flask_sockets.topics.publication import Kind, Position, Publication
from flask_sockets.topics.redis import RedisBroker, members
from flask_sockets.topics.rules import TopicOptions

from ..process import until
from ..redis_server import RedisServer, Sentinels, valkey
from .contract import (
    PATIENCE,
    BrokerContract,
    Listener,
    MakeBroker,
    publish,
    start,
    subscribe,
)

_prefixes = (f"test{number}" for number in itertools.count())

HISTORY = TopicOptions(history=100)


@pytest.fixture(scope="module", params=["redis", "valkey", "tls", "sentinel"])
def url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> t.Iterator[str]:
    directory = tmp_path_factory.mktemp("redis")
    server: RedisServer | Sentinels
    match request.param:
        case "valkey":
            server = RedisServer(directory, executable=valkey())
        case "tls":
            server = RedisServer(directory, password="se:cr@t/", tls=True)
        case "sentinel":
            server = Sentinels(directory)
        case _:
            server = RedisServer(directory)
    with server:
        yield server.url


class TestRedisBroker(BrokerContract):
    @pytest.fixture
    def make_broker(self, url: str) -> MakeBroker:
        prefix = next(_prefixes)
        return lambda: RedisBroker(url, prefix)


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[RedisServer]:
    """A server of the test's own."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


def start_on(server: RedisServer | Sentinels) -> tuple[RedisBroker, Listener]:
    broker, listener = start(lambda: RedisBroker(server.url))
    return t.cast(RedisBroker, broker), listener


def test_what_one_process_publishes_all_receive_in_one_order(
    server: RedisServer,
) -> None:
    brokers = [start_on(server) for _ in range(3)]
    for broker, _ in brokers:
        subscribe(broker, "a", options=HISTORY)
    threads = [
        threading.Thread(
            target=publish,
            args=(broker, "a", *(b"%d-%d" % (n, i) for i in range(30))),
            kwargs={"options": HISTORY},
        )
        for n, (broker, _) in enumerate(brokers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    orders = [listener.wait_for(90) for _, listener in brokers]
    assert orders[0] == orders[1] == orders[2]


def test_nothing_is_missed_or_comes_twice_while_the_connection_is_killed(
    server: RedisServer,
) -> None:
    broker, listener = start_on(server)
    publisher, _ = start_on(server)
    subscribe(broker, "a", options=TopicOptions(history=1000))
    admin = server.client()
    for n in range(200):
        if n % 40 == 20:
            admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        publish(publisher, "a", b"%d" % n, options=TopicOptions(history=1000))
    assert listener.wait_for(200) == [b"%d" % n for n in range(200)]
    assert listener.others == []


def test_a_gap_in_the_numbers_is_filled_from_the_history(server: RedisServer) -> None:
    broker, listener = start_on(server)
    subscribe(broker, "a", options=HISTORY)
    publish(broker, "a", b"1", options=HISTORY)
    listener.wait_for(1)
    # Take the channel away, so that the broker hears of the third one only.
    admin = server.client()
    channel = admin.execute_command("PUBSUB", "CHANNELS", "sockets:{a}:*")[0]
    real = []

    def silence(times: int) -> None:
        for _ in range(times):
            before = admin.xrange("sockets:{a}:stream")[-1]
            offset = admin.hincrby("sockets:{a}:meta", "offset", 1)
            message = before[1][b"m"].replace(b"-%d" % (offset - 1), b"-%d" % offset)
            admin.xadd(
                "sockets:{a}:stream",
                {b"t": before[1][b"t"], b"m": message},
                id=f"{offset}-1",
            )
            real.append(message)

    silence(2)
    admin.publish(channel, real[-1])
    assert listener.wait_for(3) == [b"1", b"1", b"1"]
    offsets = [p.place.offset for p in listener.received if p.place]
    assert offsets == [1, 2, 3]


def test_subscribers_of_topics_that_redis_has_forgotten_are_told(
    server: RedisServer,
) -> None:
    broker, listener = start_on(server)
    subscribe(broker, "a", options=HISTORY)
    subscribe(broker, "plain")
    publish(broker, "a", b"1", options=HISTORY)
    listener.wait_for(1)
    server.client().flushall()
    publish(broker, "a", b"2", options=HISTORY)
    assert listener.wait_for_others(1) == [("lose", "a")]


def test_a_restart_of_redis_begins_a_new_epoch_and_plain_topics_go_on(
    server: RedisServer,
) -> None:
    broker, listener = start_on(server)
    subscribe(broker, "a", options=HISTORY)
    subscribe(broker, "plain")
    publish(broker, "a", b"1", options=HISTORY)
    before = broker.read_history("a", HISTORY, 0).position
    server.stop()
    with pytest.raises(BrokerUnavailable, match=str(server.port)):
        publish(broker, "a", b"lost", options=HISTORY)
    server.start()
    assert listener.wait_for_others(1) == [("lose", "a")]
    read = broker.read_history("a", HISTORY, 10, before)
    assert not read.recovered
    assert read.position.epoch != before.epoch

    def is_back() -> bool:
        publish(broker, "plain", b"2")
        return b"2" in [p.payload for p in listener.received]

    until(is_back, "the plain topic")


def test_a_process_starts_while_redis_is_away_and_gets_it_later(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.stop()
    broker, listener = start_on(server)
    monkeypatch.setattr("flask_sockets.topics.redis.listener.TIMEOUT", 0.5)
    with pytest.raises(BrokerUnavailable):
        subscribe(broker, "a")
    server.start()
    monkeypatch.undo()
    subscribe(broker, "a")
    publish(broker, "a", b"1")
    assert listener.wait_for(1) == [b"1"]


def test_a_redis_that_answers_nothing_is_unavailable_and_nothing_is_lost(
    server: RedisServer,
) -> None:
    broker, listener = start_on(server)
    subscribe(broker, "a", options=HISTORY)
    publish(broker, "a", b"1", options=HISTORY)
    server.pause()
    try:
        with pytest.raises(BrokerUnavailable):
            publish(broker, "a", b"perhaps", options=HISTORY)
    finally:
        server.resume()

    def publish_again() -> bool:
        try:
            publish(broker, "a", b"2", options=HISTORY)
        except BrokerUnavailable:
            return False
        return True

    until(publish_again, "Redis")
    until(
        lambda: listener.received and listener.received[-1].payload == b"2",
        "the last publication",
    )
    offsets = [p.place.offset for p in listener.received if p.place]
    assert offsets == list(range(1, len(offsets) + 1))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), "maxmemory"),
        (("REPLICAOF", "127.0.0.1", "1"), "read only"),
    ],
)
def test_a_redis_that_refuses_is_unavailable_with_its_reason(
    server: RedisServer, command: tuple[str, ...], words: str
) -> None:
    broker, _ = start_on(server)
    server.client().execute_command(*command)
    with pytest.raises(BrokerUnavailable, match=words):
        publish(broker, "a", b"1", options=HISTORY)


def test_a_wrong_password_is_said_without_the_password(server: RedisServer) -> None:
    server.client().config_set("requirepass", "right")
    broker, _ = start(
        lambda: RedisBroker(f"redis://:wr0ng@127.0.0.1:{server.port}", "p")
    )
    with pytest.raises(BrokerUnavailable, match=r"(?i)password|auth") as caught:
        publish(broker, "a", b"1")
    assert "wr0ng" not in str(caught.value)


def test_no_thread_is_left_by_a_hundred_lost_connections(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_sockets.topics.redis.listener.RETRY_INTERVAL", 0.001)
    broker, listener = start_on(server)
    subscribe(broker, "a")
    publish(broker, "a", b"0")
    listener.wait_for(1)
    count = threading.active_count()
    admin = server.client()
    for n in range(100):
        admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        until(lambda: admin.pubsub_numsub("sockets:{a}:live")[0][1], "the subscription")
        if n % 10 == 0:
            publish(broker, "a", b"%d" % n)
    until(lambda: threading.active_count() <= count, "the end of threads")
    assert len(admin.client_list()) <= 3


def test_a_connection_that_was_closed_meanwhile_is_opened_again(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers, and what stands before them, close connections that nobody uses."""
    monkeypatch.setattr("flask_sockets.topics.redis.calls.IDLE_TIME", 0)
    broker, _ = start_on(server)
    publish(broker, "a", b"1", options=HISTORY)
    server.client().client_kill_filter(_type="normal", skipme=True)
    publish(broker, "a", b"2", options=HISTORY)
    read = broker.read_history("a", HISTORY, 10)
    assert [p.payload for p in read.publications] == [b"1", b"2"]


def test_what_is_read_from_the_history_was_received_before(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would come once more to a socket that is subscribed meanwhile."""
    broker, listener = start_on(server)
    other, _ = start_on(server)
    subscribe(broker, "a", options=HISTORY)
    may_receive = threading.Event()
    receive = listener.receive

    def receive_late(publication: Publication) -> None:
        assert may_receive.wait(30)
        receive(publication)

    monkeypatch.setattr(listener, "receive", receive_late)
    publish(other, "a", b"1", options=HISTORY)
    counts: list[int] = []

    def look() -> None:
        read = broker.read_history("a", HISTORY, 10)
        assert [p.payload for p in read.publications] == [b"1"]
        counts.append(len(listener.received))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join(0.5)
    may_receive.set()
    thread.join()
    assert counts == [1]


def test_scripts_that_redis_has_dropped_are_loaded_again(server: RedisServer) -> None:
    broker, listener = start_on(server)
    subscribe(broker, "a", options=HISTORY)
    publish(broker, "a", b"1", options=HISTORY)
    server.client().script_flush()
    publish(broker, "a", b"2", options=HISTORY)
    assert listener.wait_for(2) == [b"1", b"2"]


def test_any_program_publishes_with_one_command(server: RedisServer) -> None:
    broker, listener = start_on(server)
    subscribe(broker, "chat/lobby")
    server.client().publish("sockets:{chat/lobby}:live", b"\x01\x01\x00\x00hello")
    listener.wait_for(1)
    assert listener.received == [Publication("chat/lobby", Kind.TEXT, b"hello")]


def test_rubbish_in_a_channel_is_reported_and_stops_nothing(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    broker, listener = start_on(server)
    subscribe(broker, "a")
    admin = server.client()
    for rubbish in (
        b"",
        b"\x02\x01\x00\x00x",
        b"\x01\x01\xff\x00x",
        b"\x01\x01\0\0\xff",
    ):
        admin.publish("sockets:{a}:live", rubbish)
    for rubbish in (b"rubbish", b"[]", b'{"stats": "a:key"}'):
        admin.publish("sockets:control", rubbish)
    publish(broker, "a", b"1")
    assert listener.wait_for(1) == [b"1"]
    assert len(caplog.records) == 7


def test_a_topic_that_nobody_wants_is_unsubscribed_after_a_while(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_sockets.topics.redis.listener.UNSUBSCRIBE_DELAY", 0.1)
    monkeypatch.setattr("flask_sockets.topics.redis.listener.TICK", 0.05)
    broker, _ = start_on(server)
    subscribe(broker, "a", "b")
    broker.unsubscribe(["a"])
    admin = server.client()
    channels = [b"sockets:{b}:live"]
    until(lambda: admin.pubsub_channels("*:live") == channels, "the end of 'a'")
    broker.unsubscribe(["b"])
    until(lambda: admin.pubsub_channels("*") == [], "the end of the task")
    subscribe(broker, "a")
    assert admin.pubsub_channels("*:live") == [b"sockets:{a}:live"]


def test_a_task_that_is_slow_to_end_does_its_successor_no_harm(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody subscribes again before the task that nobody needed has ended."""
    monkeypatch.setattr("flask_sockets.topics.redis.listener.UNSUBSCRIBE_DELAY", 0)
    monkeypatch.setattr("flask_sockets.topics.redis.listener.TICK", 0.05)
    is_unused, is_ending, may_end = (threading.Event() for _ in range(3))

    def hold(frame: types.FrameType, event: str, value: t.Any) -> t.Any:
        """Wait when the task finds that there is nothing left to do."""
        if frame.f_globals["__name__"] != "flask_sockets.topics.redis.listener":
            return None
        if (event, value) == ("return", True) and is_unused.is_set():
            is_ending.set()
            may_end.wait(PATIENCE)
        return hold

    broker, _ = start_on(server)
    others = threading.gettrace()
    threading.settrace(hold)
    subscribe(broker, "a")
    threading.settrace(others)
    task = next(task for task in threading.enumerate() if "broker" in task.name)
    is_unused.set()
    broker.unsubscribe(["a"])
    assert is_ending.wait(PATIENCE)
    # Nothing but a topic that is wanted wakes the next one up.
    monkeypatch.setattr("flask_sockets.topics.redis.listener.TICK", 1000)
    subscribe(broker, "a")
    may_end.set()
    task.join()
    subscribe(broker, "b")


def test_all_that_is_stored_expires(server: RedisServer) -> None:
    broker, _ = start_on(server)
    subscribe(broker, "a", options=HISTORY)
    publish(broker, "a", b"1", options=HISTORY)
    broker.join("a", "ada", None, "s")
    admin = server.client()
    keys = list(admin.scan_iter("*"))
    assert len(keys) >= 5
    assert [key for key in keys if admin.ttl(key) < 0] == []


@pytest.fixture
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let processes that are silent for two seconds be dead after one more."""
    monkeypatch.setattr(members, "HEARTBEAT_INTERVAL", 0.1)
    monkeypatch.setattr(members, "LOOK_INTERVAL", 0.1)
    monkeypatch.setattr(members, "SILENT_AFTER", 2)
    monkeypatch.setattr(members, "DEAD_AFTER", 1)
    monkeypatch.setattr("flask_sockets.topics.redis.listener.TICK", 0.05)


def join_and_die(server: RedisServer) -> None:
    """Let 'ada' join two topics, in what is gone then without having left."""
    dead = RedisBroker(server.url)
    dead.start(Listener())
    dead.join("a", "ada", {"name": "Ada"}, "s1")
    dead.join("b", "ada", None, "s2")
    dead.close()


@pytest.mark.usefixtures("haste")
def test_members_of_a_process_that_has_died_leave_once(server: RedisServer) -> None:
    join_and_die(server)
    survivors = [start_on(server) for _ in range(2)]
    for number, (broker, _) in enumerate(survivors):
        broker.join("a", f"bob{number}", None, f"t{number}")
    until(lambda: "ada" not in survivors[0][0].presence("a", 10), "the end of ada")
    until(
        lambda: sum(len(listener.others) for _, listener in survivors) == 2, "the news"
    )
    told = [other for _, listener in survivors for other in listener.others]
    assert sorted(told, key=str) == [
        ("member_left", "a", "ada", {"name": "Ada"}),
        ("member_left", "b", "ada", None),
    ]
    assert list(survivors[0][0].presence("a", 10)) == ["bob0", "bob1"]
    for number, (broker, _) in enumerate(survivors):
        broker.leave("a", f"bob{number}", f"t{number}")


@pytest.mark.usefixtures("haste")
def test_whoever_asks_who_is_there_takes_the_dead_away(server: RedisServer) -> None:
    """Also a process that has no members, and nothing to listen to."""
    join_and_die(server)
    broker, listener = start_on(server)
    until(lambda: broker.presence("a", 10) == {}, "the end of ada")
    assert len(listener.wait_for_others(2)) == 2


@pytest.mark.usefixtures("haste")
def test_nobody_is_taken_for_dead_since_redis_was_away(server: RedisServer) -> None:
    brokers = [start_on(server) for _ in range(2)]
    for number, (broker, _) in enumerate(brokers):
        broker.join("a", f"bob{number}", None, f"t{number}")
    server.pause()
    threading.Event().wait(5)
    server.resume()

    def has_beaten() -> bool:
        processes = server.client().zrange("sockets:processes", 0, -1, withscores=True)
        seconds, _ = server.client().time()
        return len(processes) == 2 and all(seconds - at <= 1 for _, at in processes)

    until(has_beaten, "the heartbeats")
    threading.Event().wait(2)
    assert [listener.others for _, listener in brokers] == [[], []]
    for number, (broker, _) in enumerate(brokers):
        assert len(broker.presence("a", 10)) == 2 - number
        broker.leave("a", f"bob{number}", f"t{number}")


def test_members_are_told_again_to_a_redis_that_has_forgotten_them(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "HEARTBEAT_INTERVAL", 0.1)
    monkeypatch.setattr("flask_sockets.topics.redis.listener.TICK", 0.05)
    broker, _ = start_on(server)
    broker.join("a", "ada", 1, "s1")
    server.client().flushall()
    # Those who come later tell Redis of the process before the next heartbeat does.
    broker.join("a", "bob", 2, "s2")
    until(lambda: broker.presence("a", 10) == {"bob": 2, "ada": 1}, "ada")
    broker.leave("a", "ada", "s1")
    broker.leave("a", "bob", "s2")


def test_a_member_that_could_not_join_is_not_there_later(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis may have done a part of what it was told."""
    monkeypatch.setattr("flask_sockets.topics.redis.listener.TICK", 0.05)
    broker, listener = start_on(server)
    subscribe(broker, "a")
    admin = server.client()
    admin.set("sockets:processes", "something else")
    with pytest.raises(BrokerUnavailable, match="wrong kind"):
        broker.join("a", "ada", None, "s1")
    admin.delete("sockets:processes")
    until(lambda: broker.presence("a", 10) == {}, "the end of ada")
    assert listener.others == []


def test_a_topic_that_redis_refuses_to_read_does_no_harm_to_others(
    server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("flask_sockets.topics.redis.listener.TIMEOUT", 1)
    monkeypatch.setattr("flask_sockets.topics.redis.listener.TICK", 0.05)
    monkeypatch.setattr(members, "HEARTBEAT_INTERVAL", 0.1)
    broker, listener = start_on(server)
    subscribe(broker, "plain")
    subscribe(broker, "old", options=HISTORY)
    broker.join("a", "ada", None, "s1")
    admin = server.client()
    connections = len(admin.client_list())
    admin.config_set("maxmemory", 1)
    with pytest.raises(BrokerUnavailable, match="maxmemory"):
        subscribe(broker, "new", options=HISTORY)
    numbers = [f"{number}".encode() for number in range(20)]
    publish(broker, "plain", *numbers)
    assert listener.wait_for(20) == numbers
    assert len(admin.client_list()) == connections
    assert [record.message.count("maxmemory") for record in caplog.records] == [1]
    admin.config_set("maxmemory", 0)
    subscribe(broker, "new", options=HISTORY)
    publish(broker, "new", b"1", options=HISTORY)
    publish(broker, "old", b"2", options=HISTORY)
    assert listener.wait_for(22)[20:] == [b"1", b"2"]
    until(lambda: caplog.records[-1].message.endswith("is back."), "the good news")
    assert listener.others == []
    broker.leave("a", "ada", "s1")


@pytest.mark.parametrize(
    "url",
    [
        "redis://host:port",
        "redis+sentinel://",
        "redis+sentinel://host",
        "redis+sentinel://:s3cret@host/service/x",
    ],
)
def test_a_url_that_is_none_is_refused_with_the_setting_s_name(url: str) -> None:
    with pytest.raises(ValueError, match="SOCKETS_BROKER") as caught:
        RedisBroker(url)
    assert "s3cret" not in str(caught.value)


def test_a_position_of_before_is_recovered_by_another_process(
    server: RedisServer,
) -> None:
    one, _ = start_on(server)
    publish(one, "a", b"1", b"2", options=HISTORY)
    other, _ = start_on(server)
    epoch = other.read_history("a", HISTORY, 0).position.epoch
    read = other.read_history("a", HISTORY, 0, Position(epoch, 1))
    assert (read.recovered, [p.payload for p in read.publications]) == (True, [b"2"])


def test_many_publishers_share_the_writes(server: RedisServer) -> None:
    """Publishing doesn't take turns: what waits is sent along."""
    broker, listener = start_on(server)
    subscribe(broker, "a")
    numbers = [b"%d" % number for number in range(100)]
    threads = [
        threading.Thread(target=publish, args=(broker, "a", number))
        for number in numbers
    ]
    admin = server.client()
    before = admin.info("stats")["total_reads_processed"]
    server.pause()
    for thread in threads:
        thread.start()
    server.resume()
    for thread in threads:
        thread.join()
    assert sorted(listener.wait_for(100)) == sorted(numbers)
    reads = admin.info("stats")["total_reads_processed"] - before
    assert reads < 50


def test_a_member_that_leaves_while_redis_refuses_is_gone_later(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "HEARTBEAT_INTERVAL", 0.1)
    monkeypatch.setattr("flask_sockets.topics.redis.listener.TICK", 0.05)
    broker, listener = start_on(server)
    broker.join("a", "ada", None, "s1")
    broker.join("a", "bob", None, "s2")
    admin = server.client()
    admin.replicaof("127.0.0.1", "1")
    with pytest.raises(BrokerUnavailable):
        broker.leave("a", "ada", "s1")
    admin.replicaof("NO", "ONE")
    assert listener.wait_for_others(1) == [("member_left", "a", "ada", None)]
    assert list(broker.presence("a", 10)) == ["bob"]
    broker.leave("a", "bob", "s2")


def test_what_comes_without_a_pause_is_handed_on_meanwhile(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_sockets.topics.redis.listener.MAX_MESSAGES", 10)
    broker, listener = start_on(server)
    subscribe(broker, "a")
    sizes: list[int] = []
    flush = listener.flush

    def note() -> None:
        sizes.append(len(listener.received) - listener.sent)
        flush()

    monkeypatch.setattr(listener, "flush", note)
    pipeline = server.client().pipeline(transaction=False)
    for number in range(1000):
        pipeline.publish("sockets:{a}:live", b"\1\2\0\0%d" % number)
    pipeline.execute()
    assert listener.wait_for(1000) == [b"%d" % number for number in range(1000)]
    assert max(sizes) <= 10


def test_each_process_that_listens_tells_what_it_has_counted(
    server: RedisServer,
) -> None:
    one, one_listener = start_on(server)
    two, two_listener = start_on(server)
    publisher, _ = start_on(server)
    assert publisher.collect_stats().processes == []
    subscribe(one, "a")
    subscribe(two, "a", "b")
    publish(publisher, "a", b"1")
    publish(publisher, "b", b"2")
    one_listener.wait_for(1)
    two_listener.wait_for(2)
    for broker in (one, publisher):
        collected = broker.collect_stats()
        counts = [process.counts["delivered"] for process in collected.processes]
        assert (sorted(counts), collected.silent) == ([1, 2], 0)


def test_a_process_that_does_not_answer_is_counted(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_sockets.topics.redis.stats.PATIENCE", 0.5)
    broker, _ = start_on(server)
    listening = server.client().pubsub()
    listening.subscribe("sockets:control")
    assert listening.get_message(timeout=30) is not None
    assert broker.collect_stats() == ([], 1)
    listening.close()


def test_a_failover_that_loses_publications_is_noticed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with Sentinels(tmp_path_factory.mktemp("redis")) as server:
        broker, listener = start_on(server)
        subscribe(broker, "a", options=HISTORY)
        publish(broker, "a", b"1", options=HISTORY)
        listener.wait_for(1)
        server.cut_off_replica()
        publish(broker, "a", b"lost", options=HISTORY)
        listener.wait_for(2)
        lost = listener.received[-1].place
        server.fail_over()
        assert listener.wait_for_others(1) == [("lose", "a")]
        read = broker.read_history("a", HISTORY, 10, lost)
        assert (read.recovered, list(read.publications)) == (False, [])
        publish(broker, "a", b"2", options=HISTORY)
        listener.wait_for(3)
        assert [p.payload for p in listener.received] == [b"1", b"lost", b"2"]
