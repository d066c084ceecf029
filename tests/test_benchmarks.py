"""The benchmarks run, whatever they measure."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import pytest

from .process import Process, program

ROOT = Path(__file__).parent.parent


def test_the_echo_benchmark_measures_our_server() -> None:
    """In its quick mode, and without the peers, which are not installed for tests."""
    arguments = ["benchmarks/echo.py", "--quick", "--only", "ours"]
    with Process(sys.executable, *arguments, cwd=ROOT, patience=100) as process:
        process.wait_for(r"^\| ours \(.*\) \|( [\d,.]+ \|){9}$")
        assert process.wait() == 0


def test_the_fanout_benchmark_measures_topics_a_loop_and_the_floor() -> None:
    """In its quick mode, with what needs no other packages."""
    arguments = ["benchmarks/fanout.py", "--quick", "--only"]
    names = ["ours", "gevent_floor_joined", "readme_loop"]
    with Process(sys.executable, *arguments, *names, cwd=ROOT, patience=100) as process:
        for figure in (r"[\d,.]+", r"[\d,.]+ / [\d,.]+"):
            for name in names:
                process.wait_for(rf"^\| {name} \|( {figure} \|){{3}}$")
        assert process.wait() == 0


def test_the_footprint_is_measured() -> None:
    """Of our server, with few connections."""
    arguments = ["benchmarks/footprint.py", "--quick", "--only", "ours"]
    with Process(sys.executable, *arguments, cwd=ROOT, patience=100) as process:
        process.wait_for(r"^\| ours \(.*\) \| [\d.]+ \| [\d,]+ \|$")
        assert process.wait() == 0


def test_the_cost_of_subscriptions_is_measured() -> None:
    """With few sockets."""
    arguments = ["benchmarks/subscriptions.py", "--quick"]
    with Process(sys.executable, *arguments, cwd=ROOT, patience=100) as process:
        for shape in ("500 x 1", "20 x 1,000"):
            process.wait_for(rf"^\| {shape} \|( -?[\d,.]+ \|){{5}}$")
        assert process.wait() == 0


def test_the_cost_of_topics_that_processes_share_is_measured() -> None:
    """With few topics and sockets."""
    arguments = ["benchmarks/sharing.py", "--quick"]
    with Process(sys.executable, *arguments, cwd=ROOT, patience=100) as process:
        for kind in ("plain", "with a history"):
            process.wait_for(rf"^\| 200 {kind} \|( [\d,.]+ \|){{3}}$")
        for kind in ("as newcomers", "having missed 10 messages"):
            process.wait_for(rf"^\| {kind} \|( [\d,.]+ \|){{4}}$")
        assert process.wait() == 0


def test_the_cost_of_idle_sockets_is_measured() -> None:
    """With few sockets of our server, beside what it costs to open and close one."""
    arguments = ["benchmarks/idle.py", "--quick", "--only", "ours"]
    with Process(sys.executable, *arguments, cwd=ROOT, patience=100) as process:
        for kind in ("receiving", "waiting"):
            for pings in ("off", "every 25 s"):
                process.wait_for(rf"\) \| {kind} \| {pings} \| [\d.]+% \| \d+ \|$")
        process.wait_for(r"^\| handshake and close \| [\d,]+ \| [\d.]+ \|$")
        assert process.wait() == 0


def test_the_cost_of_the_broker_is_measured() -> None:
    """With few messages and few processes."""
    arguments = ["benchmarks/broker.py", "--quick"]
    with Process(sys.executable, *arguments, cwd=ROOT, patience=100) as process:
        for kind in ("plain", "with a history"):
            for count in (1, 10):
                process.wait_for(rf"^\| {kind} \| {count} \|( [\d,.]+ \|){{3}}$")
        assert process.wait() == 0


def test_the_reload_benchmark_measures_our_server() -> None:
    """In its quick mode, without the peers: for them it would make environments."""
    arguments = ["benchmarks/reload.py", "--quick", "--only", "ours"]
    with Process(sys.executable, *arguments, cwd=ROOT, patience=100) as process:
        process.wait_for(r"^\| ours \(.*\) \| -( \| [^|]+){6} \| \d+ \| \d+ \| \d+ \|$")
        process.wait_for(r"^\| ours \| [\d,]+ \| [\d.]+ \| \d+ \| \d+ \|$")
        process.wait_for(r"^\| edits lost \| <= 0 \| \d+ \| (met|missed) \|$")
        assert process.wait() == 0


def test_lost_edits_are_no_fast_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the table of reloads they are counted, and slower than all others."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    reload = importlib.import_module("reload")
    results = {
        "ours": reload.Figures("1.0", [0.05] * 18 + [0.07, 0.09], [math.inf]),
        "flask_run": reload.Figures("2", [0.5] * 18 + [math.inf] * 2, []),
    }
    results["ours"].starts.append(0.6)
    results["ours"].answers.update({"000001": 5, "cut": 3})
    assert reload.edits_table(results).splitlines()[2:] == [
        "| ours (1.0) | 0.10 | 50 | 70 | 0 of 20 | lost | lost | 1 of 1 | 0 | 3 | 0 |",
        "| flask_run (2) | 1.00 | 500 | lost | 2 of 20 | - | - | 0 of 0 | 0 | 0 | 0 |",
    ]
    assert reload.targets_table(results, reload.QUICK).splitlines()[2:] == [
        "| ours: cold start, x flask_run_stat | <= 1.10 | - | - |",
        "| ours: edit, x flask run | <= 0.20 | 0.10 | met |",
        "| pair of edits, x edit | <= 1.10 | lost | missed |",
        "| edits lost | <= 0 | 1 | missed |",
        "| requests in trouble | <= 0 | 3 | missed |",
        "| idle: part of a processor | <= 0.10% | - | - |",
        "| MiB | <= 100 | - | - |",
    ]


def test_the_reliability_campaign_loses_nothing_and_leaves_nothing() -> None:
    """In its quick form, with few sockets and one reload. A machine that stalls for
    seconds may make Redis, or a worker's end, too slow: the campaign says so, and that
    is no fault here."""
    arguments = ["benchmarks/campaign.py", "--quick"]
    program("redis-server")
    with Process(sys.executable, *arguments, cwd=ROOT, patience=110) as process:
        process.wait_for(r"^\| sockets held \| \d+ \|$")
        process.wait_for(r"^\| reloads of the second instance \| [1-9] \|$")
        process.wait_for(r"^\| lost \| 0 \|$")
        faults = process.wait_for(r"^\| faults \| (.*) \|$")[1]
        process.wait()
    for bad in ("There are more", "lost", "Traceback", "replaced", "miss the end"):
        assert bad not in faults
