"""What a change has to pass, each in an environment of its own. See ``.ci/run``."""

from __future__ import annotations

import re
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "types", "tests"]

#: An environment is made faster if only what is imported is compiled.
LAZILY = ["--no-compile"]

#: Tests of what is the same everywhere: pages, snippets, figures, types, attacks.
ANYWHERE = [
    "--ignore=tests/attacks",
    "--ignore=tests/chaos",
    "--ignore=tests/docs",
    "--ignore=tests/test_benchmarks.py",
    "--ignore=tests/test_example_page.py",
    "--ignore=tests/test_package.py",
    "--ignore=tests/test_typing.py",
]

#: How to run what may differ with the version of Python only. The ways to serve an app
#: depend more on libraries.
CORE = [*ANYWHERE, "--ignore=tests/live"]

#: Tests of what can be done with a WebSocket that run once more for each way to serve
#: an app. They are many, and run no code of ours that others don't.
REPEATED = [
    f"--ignore=tests/live/test_{name}.py"
    for name in (
        "after_the_end",
        "broadcast",
        "deploys",
        "first_apps",
        "patterns",
        "table",
    )
]

#: Tests of 'flask wsrun' that depend neither on Python nor on watchdog: all but those
#: of watching files and of forking.
SHOWING = [
    f"--ignore=tests/cli/wsrun/test_{name}.py"
    for name in (
        *(
            "access_log",
            "debugger",
            "end",
            "installing",
            "learning",
            "lookout",
            "pages",
        ),
        *("polling", "preload", "serving", "soak", "terminal"),
    )
]

#: Extras for those who work on the package. Their tools may be new.
OWN_EXTRAS = {"bench", "dev", "docs", "test"}


def pytest(
    session: nox.Session, *args: str, prefix: tuple[str, ...] = ("pytest",)
) -> None:
    """Run tests in parallel. What fails is run once more, by itself: what a busy
    machine has made too slow passes then, and what is broken fails again.
    """
    command = [*prefix, "-o", f"cache_dir={session.create_tmp()}/cache"]
    try:
        session.run(*command, "-n", "3", *(session.posargs or args))
    except nox.command.CommandFailed:
        session.run(
            *command, "-n", "0", "--last-failed", "--last-failed-no-failures=none"
        )


def show_versions(session: nox.Session) -> None:
    """Print of what the tests run with."""
    session.run("python", "-c", SHOW_VERSIONS)


SHOW_VERSIONS = """
from importlib.metadata import version
for name in "click flask gevent gunicorn redis watchdog websockets werkzeug".split():
    print(name, version(name))
"""


@nox.session
def lint(session: nox.Session) -> None:
    """Style, by ruff."""
    session.install("ruff")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    """Types, by mypy in strict mode."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The site, in which nothing may be referred to that isn't there."""
    session.install("-e", ".[docs]")
    site = f"{session.create_tmp()}/site"
    session.run("sphinx-build", "-q", "-W", "--keep-going", "docs", site)


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """Everything, on one version of Python."""
    session.install("-e", ".[test]")
    pytest(session)


@nox.session(python="3.12")
def coverage(session: nox.Session) -> None:
    """How much of 'flask_sockets' is run by tests, by the servers they start too."""
    session.install("-e", ".[test]", "coverage>=7.10")
    show_versions(session)
    session.run("coverage", "erase")
    pytest(
        session,
        *("--ignore=tests/cli", *ANYWHERE, *REPEATED),
        prefix=("coverage", "run", "-m", "pytest"),
    )
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(python=["3.12", "3.14"])
def core(session: nox.Session) -> None:
    """What may differ with the version of Python."""
    # With two extensions with which every 'flask' would be slow to start.
    session.install(*LAZILY, "-e", ".[test]", "apiflask", "flasgger")
    show_versions(session)
    pytest(session, "--ignore=tests/cli", *CORE)


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """The oldest versions of what we depend on."""
    constraints = Path(session.create_tmp(), "oldest.txt")
    constraints.write_text("\n".join(oldest_versions()))
    session.install(*LAZILY, "-c", str(constraints), "-e", ".[test]")
    show_versions(session)
    pytest(session, "--ignore=tests/cli/wsrun", *REPEATED, *ANYWHERE)


def oldest_versions() -> list[str]:
    """The oldest versions that pyproject.toml admits, as constraints for pip."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    requirements = list(project["dependencies"])
    for extra, those in project["optional-dependencies"].items():
        if extra not in OWN_EXTRAS:
            requirements += those
    constraints = []
    for requirement in requirements:
        match = re.match(r"([\w.-]+)(?:\[.*\])?\s*>=\s*([\w.]+)", requirement)
        if match is None:
            raise SystemExit(
                f"{requirement!r} in pyproject.toml has no oldest version."
            )
        constraints.append(f"{match[1]}=={match[2]}")
    return constraints


@nox.session(python="3.13")
def newest(session: nox.Session) -> None:
    """The newest versions of what we depend on, those before a release included."""
    session.install(*LAZILY, "--pre", "-e", ".[test]")
    # 'flask wsrun' works with watchdog 7, which isn't installed for the sake of others.
    session.install("--upgrade", "watchdog>=7")
    show_versions(session)
    pytest(session, *CORE, *SHOWING)
