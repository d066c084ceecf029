"""How a worker that ends takes leave of its WebSockets, and how many it may have."""

from __future__ import annotations

import resource
import subprocess
import sys
import typing as t

import gevent
import pytest

from flask_sockets.serving import farewell
from flask_sockets.serving.descriptors import connections_within
from flask_sockets.wire import registry

from . import wire
from .wire import CLOSE, Flavour


@pytest.fixture
def greenlets() -> t.Iterator[Flavour]:
    yield from wire.flavours(wire.Greenlets)


@pytest.mark.parametrize(
    ("untold", "seconds", "due"),
    [
        (10, 15, 30),  # As many a turn as it may be: all of them now.
        (3000, 15, 30),
        (10_000, 15, 67),  # More, as there wouldn't be time for all.
        (500, 0.1, 500),
        (500, 0, 500),
        (500, -1, 500),
    ],
)
def test_so_many_are_told_that_there_is_time_for_all(
    untold: int, seconds: float, due: int
) -> None:
    assert farewell.number_due(untold, seconds) == due


def test_clients_are_told_one_group_after_the_other(
    greenlets: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who come meanwhile are told as well."""
    monkeypatch.setattr(farewell, "RATE", 10)  # One each turn.
    clients = [greenlets.connect() for _ in range(3)]
    seen = []
    leave = gevent.spawn(farewell.take_leave, 1000)
    while (count := registry.untold_count()) or len(clients) == 3:
        if count not in seen:
            seen.append(count)
        if count == 1 and len(clients) == 3:
            clients.append(greenlets.connect())
        gevent.sleep(0)
    leave.kill()
    assert seen == [3, 2, 1]
    for _, peer in clients:
        assert peer.read().close == (1012, "server restarting")


def test_all_are_told_at_once_if_they_can_come_back_only_then(
    greenlets: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farewell, "RATE", 10)
    clients = [greenlets.connect() for _ in range(3)]
    leave = gevent.spawn(farewell.take_leave, 1000, True)
    gevent.sleep(0)
    assert registry.untold_count() == 0
    leave.kill()
    assert {peer.read().close for _, peer in clients} == {(1012, "server restarting")}


@pytest.mark.parametrize("patience", [0, 0.2])
def test_those_who_do_not_answer_are_cut_in_the_end(
    greenlets: Flavour, patience: float
) -> None:
    """Their handlers find the end."""
    ws, peer = greenlets.connect()
    receiver = greenlets.spawn(ws.receive)
    farewell.take_leave(patience)
    assert receiver.result() is None
    assert [frame.opcode for frame in peer.read_to_end()] == [CLOSE]
    assert ws.close_code == 1012


def test_the_app_has_descriptors_left_when_there_are_no_connections_left() -> None:
    assert connections_within(1024) == 922
    assert connections_within(2**20) < 2**20


RAISE = """
import resource
from flask_sockets.serving.descriptors import raise_limit
print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard"), [(64, 256), (256, 256)])
def test_a_worker_has_as_many_descriptors_as_it_may(soft: int, hard: int) -> None:
    result = subprocess.run(
        [sys.executable, "-c", RAISE],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["256", "256", "256"]
