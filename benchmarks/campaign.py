"""Whether a server stays as it is, whatever clients and deploys do to it.

    python benchmarks/campaign.py [--quick] [--sockets N] [--minutes N] [--write]

Two instances of an app share a Redis. Thousands of clients hold sockets with topics and
traffic. Others vanish, stall, fall silent or send rubbish. The second instance is
reloaded every minute, whose clients come back as those of htmx do. The first one isn't,
so that it shows what remains: memory, descriptors, threads, greenlets. What mustn't
happen is counted: a client that is refused, a message of a topic with history that is
lost, a line in the log that nobody asked for.
"""

# ruff: noqa: E402 (what is imported later is to be patched)
from __future__ import annotations

import gevent.monkey

gevent.monkey.patch_all()

import argparse
import contextlib
import dataclasses
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
import urllib.request
from pathlib import Path

import gevent
from crowd import Crowd
from harness import (
    HERE,
    Server,
    end_with_servers,
    free_port,
    header_of,
    replace_section,
    table,
)

REDIS = ["redis-server", "--bind", "127.0.0.1", "--save", "", "--port"]

#: Seconds for what has to come to its end.
PATIENCE = 120.0

#: What gunicorn and its workers write when all is well.
USUAL = re.compile(
    r"Starting gunicorn|Listening at|Using worker|Booting worker|takes up to"
    r"|Handling signal: hup|Hang up: Master|Worker exiting|Handling signal: term"
    # The arbiter tells a worker to end as long as it is there, until the last moment.
    r"|Shutting down: Master|was sent SIGTERM"
    # Of those who send rubbish.
    r"|Refused a request"
)

#: Parts of the time held, whose means the slope of the memory is estimated from.
BLOCKS = 12

#: Of Student's distribution with so many blocks less two, for 95%.
QUANTILE = 2.228


class Plan(t.NamedTuple):
    sockets: int
    rooms: int
    readers: int
    misbehaving: int
    #: Of numbers in a second.
    rate: float
    #: For how long the crowd is held, once it is there.
    seconds: float
    #: Between reloads of the second instance.
    reload: float
    #: What a worker has to end.
    grace: int


FULL = Plan(15_000, 150, 50, 40, 20, 30 * 60, 60, 30)
QUICK = Plan(60, 6, 4, 6, 20, 6, 4, 4)


class Instance:
    """An instance of the app: gunicorn with one worker."""

    def __init__(self, log: Path, broker: str, grace: int) -> None:
        self.port = free_port()
        self._log = log
        command = [
            *(sys.executable, "-m", "gunicorn", "-k", "flask_sockets.worker"),
            *("--bind", f"127.0.0.1:{self.port}", "--graceful-timeout", str(grace)),
            *("--no-control-socket", "campaign:app"),
        ]
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                cwd=HERE / "servers",
                env={**os.environ, "SOCKETS_BROKER": broker},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def state(self) -> dict[str, int]:
        """What the worker says of itself."""
        url = f"http://127.0.0.1:{self.port}/state"
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            answer: dict[str, int] = json.load(response)
        return answer

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def unusual_lines(self) -> list[str]:
        """What the log has that nobody asked for."""
        lines = self._log.read_text().splitlines()
        return [line for line in lines if not USUAL.search(line)]


@dataclasses.dataclass
class Size:
    """What a process has."""

    kib: int
    descriptors: int
    threads: int
    greenlets: int = 0

    def more_than(self, other: Size) -> list[str]:
        """What there is more of than there was. Not memory: that is never given back as
        it was."""
        names = ("descriptors", "threads", "greenlets")
        return [name for name in names if getattr(self, name) > getattr(other, name)]

    @classmethod
    def of(cls, pid: int) -> Size:
        status = Path(f"/proc/{pid}/status").read_text()

        def field(name: str) -> int:
            match = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
            return int(match[1]) if match else 0

        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        return cls(field("VmRSS"), descriptors, field("Threads"))


def size_of(instance: Instance) -> Size:
    state = instance.state()
    return dataclasses.replace(Size.of(state["pid"]), greenlets=state["greenlets"])


def wait_for(condition: t.Callable[[], t.Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited in vain: {what}")
        gevent.sleep(0.2)


def wait_for_server(instance: Instance) -> None:
    def answers() -> bool:
        with contextlib.suppress(OSError):
            instance.state()
            return True
        return False

    wait_for(answers, "an instance answers")


def slope(samples: t.Sequence[tuple[float, float]]) -> tuple[float, float]:
    """How much a value grows in a minute, and half of the interval of 95% around that.

    A value depends on the one before it, more than a regression allows for. So it is
    one of the means of blocks.

    :param samples: seconds, and the value then.
    """
    size = max(1, len(samples) // BLOCKS)
    blocks = [samples[i : i + size] for i in range(0, len(samples), size)][:BLOCKS]
    if len(blocks) < 3:
        return math.nan, math.nan
    xs = [statistics.fmean(x for x, _ in block) / 60 for block in blocks]
    ys = [statistics.fmean(y for _, y in block) for block in blocks]
    middle = statistics.fmean(xs)
    spread = sum((x - middle) ** 2 for x in xs)
    fit = statistics.linear_regression(xs, ys)
    errors = sum(
        (y - fit.intercept - fit.slope * x) ** 2 for x, y in zip(xs, ys, strict=True)
    )
    error = math.sqrt(errors / (len(blocks) - 2) / spread)
    return fit.slope, QUANTILE * error


@dataclasses.dataclass
class Result:
    """What a campaign has found."""

    crowd: Crowd
    before: Size
    after: Size
    #: Of the instance that isn't reloaded, while the crowd is there.
    sizes: list[tuple[float, Size]]
    reloads: int
    #: What mustn't happen.
    faults: list[str]


def run(plan: Plan, directory: Path) -> Result:
    with contextlib.ExitStack() as stack:
        redis = Server(REDIS)
        stack.callback(redis.stop)
        instances = []
        for name in ("steady", "reloaded"):
            log = directory / f"{name}.log"
            broker = f"redis://127.0.0.1:{redis.port}"
            instances.append(Instance(log, broker, plan.grace))
            stack.callback(instances[-1].stop)
        for instance in instances:
            wait_for_server(instance)
        result = hold(plan, instances)
    for instance in instances:
        result.faults += instance.unusual_lines()
    return result


def hold(plan: Plan, instances: t.Sequence[Instance]) -> Result:
    """Let the crowd come, hold it, and let it leave."""
    steady, reloaded = instances
    ports = [instance.port for instance in instances]

    # What the app does for the first time leaves something behind.
    first = Crowd(ports, plan.rooms)
    first.hold(2)
    first.read(1)
    first.start_publishing(plan.rate)
    wait_for(lambda: first.tally.held == 2 and first.published > 10, "the first ones")
    first.leave()
    before = left_by_all(steady)
    pid = steady.state()["pid"]

    crowd = Crowd(ports, plan.rooms)
    tally = crowd.tally
    crowd.start_publishing(plan.rate)
    crowd.hold(plan.sockets)
    crowd.read(plan.readers)
    wait_for(lambda: tally.held >= plan.sockets, "all sockets are held")
    crowd.misbehave(plan.misbehaving)

    sizes: list[tuple[float, Size]] = []
    start = time.monotonic()
    next_reload, reloads = start + plan.reload, 0
    while (now := time.monotonic()) < start + plan.seconds:
        sizes.append((now - start, Size.of(pid)))
        if now >= next_reload:
            next_reload += plan.reload
            reloads += 1
            reloaded.reload()
            print(f"{now - start:,.0f} s: {sizes[-1][1]}, {tally}", flush=True)
        gevent.sleep(min(1.0, plan.seconds / 20))

    wait_for(lambda: tally.held >= plan.sockets, "all have come back")
    crowd.stop_publishing()
    faults = []
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: not late_readers(crowd), "the last messages")
    late = late_readers(crowd)
    faults += [f"{late} readers miss the end of the topic."] if late else []
    faults += crowd.failures()
    crowd.leave()
    after = left_by_all(steady, before)
    if steady.state()["pid"] != pid:
        faults.append("The worker that isn't reloaded has been replaced.")
    faults += judge(crowd, before, after)
    return Result(crowd, before, after, sizes, reloads, faults)


def late_readers(crowd: Crowd) -> int:
    """How many readers haven't seen the last number."""
    return sum(reader.last < crowd.published for reader in crowd.readers)


def left_by_all(instance: Instance, before: Size | None = None) -> Size:
    """What an instance has when all clients have left.

    :param before: what it had before they came. It may take some time until there is no
        more than that: subscriptions to Redis end with a delay.
    """
    wait_for(lambda: instance.state()["sockets"] == 0, "all sockets are gone")
    size = size_of(instance)
    deadline = time.monotonic() + PATIENCE
    while before is not None and size.more_than(before):
        if time.monotonic() > deadline:
            break
        gevent.sleep(0.5)
        size = size_of(instance)
    return size


def judge(crowd: Crowd, before: Size, after: Size) -> list[str]:
    """What mustn't happen, in sentences."""
    tally = crowd.tally
    faults = []
    for what, count in (
        ("messages of a topic with history were lost", tally.lost),
        ("readers were told that something may be missing", tally.unrecovered),
        ("clients were refused", tally.refused.total()),
    ):
        if count:
            faults.append(f"{count} {what}.")
    faults += [
        f"There are more {name} than before: {before}, then {after}."
        for name in after.more_than(before)
    ]
    return faults


def report(plan: Plan, result: Result) -> str:
    tally, sizes = result.crowd.tally, result.sizes
    # At first memory grows into the size that it needs.
    growth, half = slope([(x, size.kib) for x, size in sizes[len(sizes) // 4 :]])
    rows = [
        ("sockets held", f"{plan.sockets:,}"),
        ("seconds", f"{plan.seconds:,.0f}"),
        ("reloads of the second instance", f"{result.reloads:,}"),
        ("publications that came", f"{tally.delivered:,}"),
        ("connections closed, by code", counted(tally.closed)),
        ("misdeeds", counted(tally.misdeeds)),
        ("memory held, MiB", f"{sizes[-1][1].kib / 1024:,.0f}"),
        ("its growth, KiB a minute", f"{growth:,.0f} ± {half:,.0f}"),
        ("descriptors before, held, after", history(result, "descriptors")),
        ("threads before, held, after", history(result, "threads")),
        (
            "greenlets before, after",
            f"{result.before.greenlets:,}, {result.after.greenlets:,}",
        ),
        ("memory before, after, MiB", memory(result)),
        ("messages of the topic with history", f"{result.crowd.published:,}"),
        ("lost", f"{tally.lost:,}"),
        ("came twice", f"{tally.twice:,}"),
        ("had to be published again", f"{tally.failed:,}"),
        ("faults", "; ".join(result.faults) or "none"),
    ]
    return table(("", "found"), rows)


def history(result: Result, name: str) -> str:
    held = max(getattr(size, name) for _, size in result.sizes)
    before, after = getattr(result.before, name), getattr(result.after, name)
    return f"{before:,}, {held:,}, {after:,}"


def memory(result: Result) -> str:
    return f"{result.before.kib / 1024:,.0f}, {result.after.kib / 1024:,.0f}"


def counted(counter: t.Mapping[t.Any, int]) -> str:
    return ", ".join(f"{name}: {count:,}" for name, count in sorted(counter.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="some sockets, seconds")
    extent.add_argument("--write", action="store_true", help="update RESULTS.md")
    parser.add_argument("--sockets", type=int, help="how many to hold")
    parser.add_argument("--minutes", type=float, help="for how long to hold them")
    options = parser.parse_args()
    end_with_servers()
    plan = QUICK if options.quick else FULL
    if options.sockets is not None:
        plan = plan._replace(sockets=options.sockets)
    if options.minutes is not None:
        plan = plan._replace(seconds=options.minutes * 60)

    with tempfile.TemporaryDirectory() as directory:
        result = run(plan, Path(directory))
    text = report(plan, result)
    print(text)
    if options.write:
        how = "clients and servers on one machine"
        section = f"{header_of(how)}\n\n{text}"
        replace_section(HERE / "RESULTS.md", "Reliability", section)
    if result.faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
