"""Reload benchmark: from an edit of the app to the first response of the new version.

    python benchmarks/reload.py [--quick | --write] [--only NAME ...]

Each server is a command as people type it, and runs alone. In each round every server
is started afresh and gets its share of the edits, so that what disturbs the machine
disturbs all of them. Peers get virtual environments of their own, made for the run.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import math
import random
import statistics
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from devserver import TROUBLES, DevServer, Idle, environment, versions
from harness import HERE, end_with_servers, header_of, replace_section, row

FLASK_APP = """\
from flask import Flask

app = Flask(__name__)


@app.get("/")
def page():
    return "version {version:06}"
"""
SOCKETS_APP = f"""\
{FLASK_APP}

from flask_sockets import Sockets

sockets = Sockets(app)


@sockets.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)
"""
STARLETTE_APP = """\
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def page(request):
    return PlainTextResponse("version {version:06}")


app = Starlette(routes=[Route("/", page)])
"""
#: What makes an app a heavier one: most of its loading is that of libraries.
HEAVIER = "import requests\nimport sqlalchemy.orm\n"
HEAVIER_PACKAGES = ["requests", "sqlalchemy"]


class Peer(t.NamedTuple):
    """A server to measure."""

    command: str
    app: str
    #: The packages that make it what it is.
    shown: list[str]
    #: What to install for it; nothing if it runs where this script does.
    packages: list[str]
    #: The server it is compared with, which serves such an app.
    standard: str = "flask_run"


WSRUN = "flask --app app wsrun --debug"
FLASK_RUN = "flask --app app run --debug"
#: Werkzeug's reloader reloads nothing with watchdog 7.
WATCHDOG_6 = ["flask", "watchdog<7"]

PEERS = {
    "ours": Peer(WSRUN, SOCKETS_APP, ["flask", "gevent", "watchdog"], []),
    "flask_run": Peer(FLASK_RUN, FLASK_APP, ["flask", "watchdog"], WATCHDOG_6),
    "flask_run_stat": Peer(FLASK_RUN, FLASK_APP, ["flask"], ["flask"]),
    "uvicorn": Peer(
        "uvicorn app:app --reload",
        STARLETTE_APP,
        ["uvicorn", "starlette", "watchfiles"],
        ["uvicorn[standard]", "starlette"],
    ),
    "ours_heavier": Peer(
        WSRUN,
        HEAVIER + SOCKETS_APP,
        ["flask", "gevent", "watchdog", *HEAVIER_PACKAGES],
        [str(HERE.parent), *HEAVIER_PACKAGES],
        "flask_run_heavier",
    ),
    "ours_preloading": Peer(
        f"{WSRUN} --preload requests --preload sqlalchemy.orm",
        HEAVIER + SOCKETS_APP,
        ["flask", "gevent", "watchdog", *HEAVIER_PACKAGES],
        [str(HERE.parent), *HEAVIER_PACKAGES],
        "flask_run_heavier",
    ),
    "flask_run_heavier": Peer(
        FLASK_RUN,
        HEAVIER + FLASK_APP,
        ["flask", "watchdog", *HEAVIER_PACKAGES],
        [*WATCHDOG_6, *HEAVIER_PACKAGES],
        "flask_run_heavier",
    ),
}


class Plan(t.NamedTuple):
    """What is done in each round, to each server; once it is left idle for a while."""

    rounds: int
    edits: int
    pairs: int
    idle: float
    #: Seconds before an edit, and between those of a pair.
    calm: tuple[float, float] = (0.6, 1.2)
    rapid: tuple[float, float] = (0.0, 0.15)


FULL, QUICK = Plan(5, 4, 2, 10.0), Plan(1, 2, 1, 1.0)


@dataclasses.dataclass
class Figures:
    """What was measured of one server, in seconds; infinite for a lost edit."""

    label: str
    edits: list[float] = dataclasses.field(default_factory=list)
    pairs: list[float] = dataclasses.field(default_factory=list)
    starts: list[float] = dataclasses.field(default_factory=list)
    answers: t.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    idle: Idle = dataclasses.field(default_factory=lambda: Idle(math.nan, math.nan, 0))


def measure(server: DevServer, plan: Plan, number: int, figures: Figures) -> None:
    """One round of one server. The pauses of a round are the same for all servers."""
    chance = random.Random(number)
    figures.starts.append(server.start())
    for _ in range(plan.edits):
        time.sleep(chance.uniform(*plan.calm))
        figures.edits.append(server.edit())
    for _ in range(plan.pairs):
        time.sleep(chance.uniform(*plan.calm))
        server.write()
        time.sleep(chance.uniform(*plan.rapid))
        figures.pairs.append(server.edit())
    figures.answers.update(server.answers)
    if number == 0:
        figures.idle = server.idle(plan.idle)


def measure_all(names: list[str], plan: Plan, directory: Path) -> dict[str, Figures]:
    commands: dict[str, Path] = {}
    results: dict[str, Figures] = {}
    for name in names:
        peer = PEERS[name]
        commands[name] = Path(sys.executable).parent
        if peer.packages:
            print(f"{name}: installing {', '.join(peer.packages)}")
            commands[name] = environment(directory / name, peer.packages)
        results[name] = Figures(versions(commands[name], peer.shown))
    for number in range(plan.rounds):
        for name, figures in results.items():
            program, *arguments = PEERS[name].command.split()
            command = [str(commands[name] / program), *arguments]
            place = directory / f"{name}-{number}"
            try:
                with DevServer(command, PEERS[name].app, place) as server:
                    measure(server, plan, number, figures)
            except (OSError, RuntimeError) as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
            edit, pair = median(figures.edits) * 1000, median(figures.pairs) * 1000
            print(f"{name:18} edit {edit:6,.0f} ms, pair {pair:6,.0f} ms")
    return results


# What is made of the figures


def median(times: list[float]) -> float:
    return statistics.median(times) if times else math.nan


def percentile_95(times: list[float]) -> float:
    """By the nearest rank."""
    return sorted(times)[math.ceil(0.95 * len(times)) - 1] if times else math.nan


def ratio(results: dict[str, Figures], name: str) -> float:
    """The median of a server's edits, relative to 'flask run' with such an app."""
    standard = results.get(PEERS[name].standard)
    if standard is None:
        return math.nan
    return median(results[name].edits) / median(standard.edits)


def shown(value: float, form: str) -> str:
    return {math.inf: "lost"}.get(value, "-" if value != value else f"{value:{form}}")


def milliseconds(times: list[float]) -> list[str]:
    """The cells of one kind of edit."""
    return [
        shown(median(times) * 1000, ",.0f"),
        shown(percentile_95(times) * 1000, ",.0f"),
        f"{times.count(math.inf)} of {len(times)}",
    ]


def edits_table(results: dict[str, Figures]) -> str:
    kind = ("median ms", "95 % ms", "lost")
    head = ["server", "x flask run", *(f"edit: {name}" for name in kind)]
    head += [*(f"pair: {name}" for name in kind), *TROUBLES]
    lines = [row(*head), "|---" * len(head) + "|"]
    for name, figures in results.items():
        lines.append(
            row(
                f"{name} ({figures.label})",
                shown(ratio(results, name), ".2f"),
                *milliseconds(figures.edits),
                *milliseconds(figures.pairs),
                *(str(figures.answers[trouble]) for trouble in TROUBLES),
            )
        )
    return "\n".join(lines)


def costs_table(results: dict[str, Figures], plan: Plan) -> str:
    idle = f"idle: processor ms in {plan.idle:g} s"
    head = ["server", "cold start: median ms", idle, "MiB", "processes"]
    lines = [row(*head), "|---" * len(head) + "|"]
    for name, figures in results.items():
        lines.append(
            row(
                name,
                shown(median(figures.starts) * 1000, ",.0f"),
                shown(figures.idle.processor_seconds * 1000, ".1f"),
                shown(figures.idle.mib, ".0f"),
                str(figures.idle.processes),
            )
        )
    return "\n".join(lines)


def targets_table(results: dict[str, Figures], plan: Plan) -> str:
    """Our figures beside what they are to be."""
    ours = results["ours"]
    processor = ours.idle.processor_seconds / plan.idle
    lines = [row("ours", "target", "measured", ""), "|---" * 4 + "|"]
    for what, most, measured, form in (
        ("edit, x flask run", 0.2, ratio(results, "ours"), ".2f"),
        ("pair of edits, x edit", 1.1, median(ours.pairs) / median(ours.edits), ".2f"),
        ("edits lost", 0, (ours.edits + ours.pairs).count(math.inf), ".0f"),
        ("requests in trouble", 0, sum(ours.answers[key] for key in TROUBLES), ".0f"),
        ("idle: part of a processor", 0.001, processor, ".2%"),
        ("MiB", 100, ours.idle.mib, ".0f"),
    ):
        verdict = (
            "-" if math.isnan(measured) else "met" if measured <= most else "missed"
        )
        lines.append(row(what, f"<= {most:{form}}", shown(measured, form), verdict))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="one round of few edits")
    extent.add_argument("--write", action="store_true", help="update RESULTS.md")
    parser.add_argument("--only", nargs="*", choices=PEERS, default=list(PEERS))
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    end_with_servers()
    with tempfile.TemporaryDirectory(prefix="benchmark-reload-") as directory:
        results = measure_all(options.only, plan, Path(directory))
    tables = [edits_table(results), costs_table(results, plan)]
    if "ours" in results:
        tables.append(targets_table(results, plan))
    text = "\n\n".join(tables)
    print(text)
    if options.write:
        how = f"{plan.rounds} rounds of {plan.edits} edits and {plan.pairs} pairs"
        replace_section(HERE / "RESULTS.md", "Reload", f"{header_of(how)}\n\n{text}")


if __name__ == "__main__":
    main()
