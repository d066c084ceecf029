"""What is published holds what is needed, and works where nothing else is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import typing as t
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import flask_sockets

from .live.clients import WebsocketsClient
from .process import Process, missing, port_of

pytestmark = [
    pytest.mark.skipif("CI" not in os.environ, reason="It downloads what it installs."),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group(__name__),
]

PROJECT = Path(__file__).parents[1]

#: What git has besides, and users don't need to build or test the package.
NOT_PUBLISHED = (
    ".ci/",
    ".github/",
    ".editorconfig",
    ".gitignore",
    ".pre-commit-config",
    ".readthedocs.yaml",
)


class Package(t.NamedTuple):
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """The wheel is built from the sdist, as it is for the index."""
    directory = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--outdir", str(directory), str(PROJECT)]
    subprocess.run(build, check=True, capture_output=True)
    (sdist,) = directory.glob("*.tar.gz")
    (wheel,) = directory.glob("*.whl")
    return Package(sdist, wheel)


def tracked(*paths: str) -> set[str]:
    """The files that git knows."""
    command = ["git", "-C", str(PROJECT), "ls-files", *paths]
    return set(subprocess.check_output(command, text=True).split())


def test_the_wheel_holds_both_packages_and_nothing_else(package: Package) -> None:
    with zipfile.ZipFile(package.wheel) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == tracked("flask_sockets", "flask_sockets_cli")
    assert {"flask_sockets/py.typed", "flask_sockets_cli/py.typed"} <= names


def test_the_sdist_holds_what_is_needed_to_build_and_test(package: Package) -> None:
    with tarfile.open(package.sdist) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    missing = {n for n in tracked() - names if not n.startswith(NOT_PUBLISHED)}
    assert not missing
    assert not names - tracked() - {"PKG-INFO"}


@pytest.fixture(scope="module")
def python(package: Package, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment that has nothing but the wheel and its extra."""
    venv = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = str(venv / "bin/python")
    install = [python, "-m", "pip", "install", "-q", f"{package.wheel}[gunicorn]"]
    subprocess.run(install, check=True)
    return python


def smallest_app() -> str:
    """The first one in the README."""
    readme = (PROJECT / "README.md").read_text()
    return readme.partition("```python\n# app.py\n")[2].partition("```")[0]


def echoes(port: int) -> bool:
    client = WebsocketsClient(f"ws://127.0.0.1:{port}/echo")
    client.send("hello")
    answer = client.receive()
    client.close()
    return bool(answer == "hello")


def test_the_smallest_app_runs_from_the_wheel(python: str, tmp_path: Path) -> None:
    tmp_path.joinpath("app.py").write_text(smallest_app())
    command = [python, "-m", "flask", "--app", "app", "wsrun", "--debug", "--port", "0"]
    with Process(*command, cwd=tmp_path) as process:
        assert echoes(port_of(process))


def test_the_worker_runs_from_the_wheel(python: str, tmp_path: Path) -> None:
    tmp_path.joinpath("app.py").write_text(smallest_app())
    with Process(
        *(python, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket"),
        *("-k", "flask_sockets.worker", "app:app"),
        cwd=tmp_path,
    ) as process:
        port = process.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)")[1]
        assert echoes(int(port))


def test_workflows_run_sessions_that_exist() -> None:
    """Those that a code host runs, which nobody runs here."""
    if find_spec("nox") is None:
        missing("The package 'nox' is not installed.")
    sessions = set()
    for path in PROJECT.glob(".github/workflows/*.yaml"):
        for job in yaml.safe_load(path.read_text())["jobs"].values():
            pythons = job.get("strategy", {}).get("matrix", {}).get("python", [""])
            for step in job["steps"]:
                for name in re.findall(r"nox --session (.*)", step.get("run", "")):
                    sessions |= {
                        name.replace("${{ matrix.python }}", python)
                        for python in pythons
                    }
    assert sessions == {"coverage", "tests-3.11", "tests-3.14"}
    command = [sys.executable, "-m", "nox", "--list", "--session", *sessions]
    subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)


def test_the_version_is_that_of_the_package(python: str) -> None:
    show = "import flask_sockets; print(flask_sockets.__version__)"
    seen = subprocess.check_output([python, "-c", show], text=True).strip()
    assert seen == flask_sockets.__version__
