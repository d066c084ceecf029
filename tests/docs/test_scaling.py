"""The page on scaling: its plan, its broker, and what other languages send."""

from __future__ import annotations

import importlib
import itertools
import shlex
import subprocess
import sys
import typing as t

import flask
import pytest

from flask_sockets import Broker
from flask_sockets.topics.publication import Kind, Publication
from flask_sockets.topics.redis import RedisBroker

from ..documents import ROOT, Document
from ..process import program
from ..redis_server import RedisServer
from ..topics.contract import BrokerContract, Listener, MakeBroker, started, subscribe

# They share two Redises.
pytestmark = pytest.mark.xdist_group(__name__)

PAGE = Document("docs/scaling.md")

_prefixes = (f"test{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory,
) -> t.Iterator[tuple[RedisServer, RedisServer]]:
    with (
        RedisServer(tmp_path_factory.mktemp("redis")) as one,
        RedisServer(tmp_path_factory.mktemp("redis")) as two,
    ):
        yield one, two


@pytest.fixture(autouse=True)
def close_brokers() -> t.Iterator[None]:
    yield
    while started:
        started.pop().close()


class TestShards(BrokerContract):
    """The broker of the page does what brokers have to do."""

    @pytest.fixture
    def make_broker(self, servers: tuple[RedisServer, RedisServer]) -> MakeBroker:
        shards = PAGE.run_python({"app": flask.Flask("app")})["Shards"]
        prefix = next(_prefixes)

        def make() -> Broker:
            return t.cast(
                "Broker", shards(*(RedisBroker(s.url, prefix) for s in servers))
            )

        return make


def test_the_shell_publishes_and_disconnects(
    servers: tuple[RedisServer, RedisServer],
) -> None:
    program("redis-cli")
    server = servers[0]

    def run(text: str) -> None:
        (command,) = PAGE.find(text).splitlines()
        there = f"redis-cli -p {server.port}"
        shell = ["sh", "-c", command.replace("redis-cli", there)]
        subprocess.run(shell, check=True, stdout=subprocess.DEVNULL, timeout=60)

    broker, listener = RedisBroker(server.url), Listener()
    broker.start(listener)
    started.append(broker)
    subscribe(broker, "chat/lobby")
    run("printf")
    listener.wait_for(1)
    assert listener.received == [Publication("chat/lobby", Kind.TEXT, b"hello")]
    run("sockets:control")
    order = ("disconnect", "user/7", 4001, "You are logged out.")
    assert listener.wait_for_others(1) == [order]


def run_capacity(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "benchmarks/capacity.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def test_the_plan_is_what_the_script_says() -> None:
    """With no options, and other numbers can be given."""
    assert f"\n\n{run_capacity().stdout}\n" in PAGE.text
    *_, other = (
        shlex.split(line)[2:]
        for block in PAGE.blocks
        if "capacity.py" in block.text
        for line in block.text.splitlines()
    )
    assert "| connections | 50,000 |" in run_capacity(*other).stdout
    refused = run_capacity("--cores", "0")
    assert refused.returncode == 2
    assert "argument --cores" in refused.stderr


def test_a_plan_does_without_one_machine_and_no_smaller_one_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    capacity = importlib.import_module("capacity")
    costs, machine = capacity.Costs(), capacity.Machine(cores=1, sockets=1000)
    plan = capacity.plan(capacity.Load(connections=10_000), costs, machine)
    # 2,000 publications a second are heard by nearly all processes, and each has 500
    # subscribers: 6.2 and more seconds of processor time, half a core at most each.
    assert plan.machines > 6.2 / machine.utilisation
    assert plan.process_use < machine.utilisation
    without = (plan.machines - 1) / plan.machines
    assert plan.process_use / without <= machine.utilisation * 1.01
    assert plan.process_use / (without - 1 / plan.machines) > machine.utilisation * 0.95
    # With nothing published, it is the number of connections that counts.
    quiet = capacity.Load(connections=10_000, publications=0)
    assert capacity.plan(quiet, costs, machine).machines == 11
    # What each process hears can be too much for any number of them.
    loud = capacity.Load(10_000, publications=100_000, subscribers=10**9)
    with pytest.raises(ValueError, match="fewer publications"):
        capacity.plan(loud, costs, machine)
