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
import os
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
#: Libraries that heavy apps import, by what such an app does: those and more make most
#: of its loading.
HEAVY = {
    "orm": ["sqlalchemy"],
    "data": ["numpy", "pandas", "matplotlib"],
    "services": ["boto3", "celery", "sentry-sdk", "pydantic"],
}
HEAVY_IMPORTS = {
    "orm": "import models",
    "data": "import numpy\nimport pandas\nimport matplotlib.pyplot",
    "services": "import boto3\nimport celery.result\nimport pydantic\n"
    "import sentry_sdk.integrations.flask",
}
#: One of the 40 modules of the app with SQLAlchemy. Each is 130 lines long.
MODEL = """\
from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from . import Base


class Model{number}(Base):
    __tablename__ = "model{number}"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("model{number}.id"))
    children: Mapped[list["Model{number}"]] = relationship()
"""
METHOD = """
    def method{number}(self, limit: int = {number}) -> list[str]:
        names = [child.name for child in self.children if child.id > limit]
        return sorted(names) or [self.name]
"""
MODELS = """\
from sqlalchemy.orm import DeclarativeBase, configure_mappers


class Base(DeclarativeBase):
    pass


"""


def modules_of(kind: str) -> dict[str, str]:
    """The sources of an app's other modules, by their paths."""
    if kind != "orm":
        return {}
    methods = "".join(METHOD.format(number=number) for number in range(23))
    numbers = range(40)
    imports = "".join(f"from . import model{n}  # noqa: E402\n" for n in numbers)
    return {
        "models/__init__.py": f"{MODELS}{imports}\nconfigure_mappers()\n",
        **{f"models/model{n}.py": MODEL.format(number=n) + methods for n in numbers},
    }


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
    #: The other modules of the app, by their paths.
    modules: t.Mapping[str, str] = {}
    #: Seconds before the first edit.
    settling: float = 0.0


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
}

#: Seconds in which a server may learn from its first load.
LEARNING = 10.0

_ALL = [package for packages in HEAVY.values() for package in packages]
#: One environment for all of these apps, since the libraries are large, and one more.
_WITH_WATCHDOG, _WITHOUT = [str(HERE.parent), *_ALL], ["flask", *_ALL]

for kind, libraries in HEAVY.items():
    PEERS |= {
        f"{name}_{kind}": Peer(
            command,
            f"{HEAVY_IMPORTS[kind]}\n{source}",
            [*shown, *libraries],
            packages,
            f"flask_run_{kind}",
            modules_of(kind),
            LEARNING,
        )
        for name, command, source, shown, packages in (
            ("ours", WSRUN, SOCKETS_APP, ["flask", "gevent"], _WITH_WATCHDOG),
            ("flask_run", FLASK_RUN, FLASK_APP, ["flask", "watchdog"], _WITH_WATCHDOG),
            ("flask_run_stat", FLASK_RUN, FLASK_APP, ["flask"], _WITHOUT),
        )
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


def measure(
    server: DevServer, plan: Plan, number: int, settling: float, figures: Figures
) -> None:
    """One round of one server. The pauses of a round are the same for all servers."""
    chance = random.Random(number)
    figures.starts.append(server.start())
    time.sleep(settling)
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
    made: dict[tuple[str, ...], Path] = {}
    for name in names:
        peer = PEERS[name]
        commands[name] = Path(sys.executable).parent
        if peer.packages:
            key = tuple(peer.packages)
            if key not in made:
                print(f"{name}: installing {', '.join(peer.packages)}")
                made[key] = environment(directory / name, peer.packages)
            commands[name] = made[key]
        results[name] = Figures(versions(commands[name], peer.shown))
    for number in range(plan.rounds):
        for name, figures in results.items():
            program, *arguments = PEERS[name].command.split()
            command = [str(commands[name] / program), *arguments]
            place = directory / f"{name}-{number}"
            try:
                peer = PEERS[name]
                with DevServer(command, peer.app, place, peer.modules) as server:
                    measure(server, plan, number, peer.settling, figures)
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


#: How long an edit may take, relative to 'flask run' with such an app, and a cold
#: start, relative to the reloader that looks at all files once a second.
TARGETS = {
    "ours": (0.2, 1.1),
    "ours_orm": (0.2, 0.8),
    "ours_data": (0.1, 0.8),
    "ours_services": (0.1, 0.8),
}


def start_ratio(results: dict[str, Figures], name: str) -> float:
    """The median of a server's cold starts, relative to that reloader."""
    standard = results.get(name.replace("ours", "flask_run_stat"))
    if standard is None:
        return math.nan
    return median(results[name].starts) / median(standard.starts)


def targets_table(results: dict[str, Figures], plan: Plan) -> str:
    """Our figures beside what they are to be."""
    lines = [row("ours", "target", "measured", ""), "|---" * 4 + "|"]
    goals: list[tuple[str, float, float, str]] = []
    for name in results.keys() & TARGETS.keys():
        edit, start = TARGETS[name]
        goals += [
            (f"{name}: edit, x flask run", edit, ratio(results, name), ".2f"),
            (
                f"{name}: cold start, x flask_run_stat",
                start,
                start_ratio(results, name),
                ".2f",
            ),
        ]
    goals.sort()
    ours = results.get("ours")
    if ours is not None:
        processor = ours.idle.processor_seconds / plan.idle
        pair = median(ours.pairs) / median(ours.edits)
        trouble = sum(ours.answers[key] for key in TROUBLES)
        goals += [
            ("pair of edits, x edit", 1.1, pair, ".2f"),
            ("edits lost", 0, (ours.edits + ours.pairs).count(math.inf), ".0f"),
            ("requests in trouble", 0, trouble, ".0f"),
            ("idle: part of a processor", 0.001, processor, ".2%"),
            ("MiB", 100, ours.idle.mib, ".0f"),
        ]
    for what, most, measured, form in goals:
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
    parser.add_argument("--rounds", type=int, help="another number of rounds")
    parser.add_argument("--only", nargs="*", choices=PEERS, default=list(PEERS))
    options = parser.parse_args()
    plan = QUICK if options.quick else FULL
    plan = plan._replace(rounds=options.rounds or plan.rounds)
    end_with_servers()
    with tempfile.TemporaryDirectory(prefix="benchmark-reload-") as directory:
        # For our server, and for the fonts of matplotlib.
        os.environ["XDG_CACHE_HOME"] = f"{directory}/cache"
        results = measure_all(options.only, plan, Path(directory))
    how = f"{plan.rounds} rounds of {plan.edits} edits and {plan.pairs} pairs"
    heavy = {name for name in results if name.rpartition("_")[2] in HEAVY}
    for title, names in (("Reload", results.keys() - heavy), ("Heavy apps", heavy)):
        part = {name: results[name] for name in results if name in names}
        if not part:
            continue
        tables = [edits_table(part), costs_table(part, plan)]
        if part.keys() & TARGETS.keys():
            tables.append(targets_table(part, plan))
        text = "\n\n".join(tables)
        print(text)
        if options.write:
            text = f"{header_of(how)}\n\n{text}"
            replace_section(HERE / "RESULTS.md", title, text)


if __name__ == "__main__":
    main()
