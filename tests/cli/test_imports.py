"""What each process imports: as little as it can, and nothing that does not get along
with the rest, such as gevent with watchdog's threads.
"""

from __future__ import annotations

import json
import pkgutil
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

import flask_sockets_cli
from flask_sockets_cli import serve, warm, watch

from ..process import Process, port_of
from .apps import WEBSOCKETS, get, write_app

#: Has every process write down, when it ends, what it has imported, in a file with the
#: name of its role. The servers' role is told by the app.
RECORD = """
import atexit, json, os, pathlib, sys

here = pathlib.Path(__file__).parent
command = os.getpid()
is_warm = "-c" in sys.orig_argv

def write():
    role = "supervisor"
    if is_warm:
        role = "warm" if os.getpid() == command else "server"
    (here / f"{role}.json").write_text(json.dumps(sorted(sys.modules)))

atexit.register(write)
"""

#: What a process has no business with, besides what the folders say for themselves.
APART = {
    "supervisor": {*watch.NEVER_IMPORTED, "flask_sockets_cli.serve", "app"},
    "warm": {*warm.NEVER_IMPORTED, "flask_sockets_cli.supervisor", "app"},
    "server": {*serve.NEVER_IMPORTED, "flask_sockets_cli.supervisor"},
}


def imported_by(code: str) -> set[str]:
    """The modules that a fresh interpreter has imported after some code."""
    code = f"{code}\nimport sys\nprint(*list(sys.modules))"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    return set(output.split())


def within(names: t.Iterable[str], packages: t.Iterable[str]) -> set[str]:
    """Those modules that are, or are in, one of the packages."""
    return {
        name
        for name in names
        if any(f"{name}.".startswith(f"{package}.") for package in packages)
    }


def test_entry_points_are_light() -> None:
    """Every flask command imports them, so they bring nothing but their own modules."""
    brought = imported_by(
        "import flask.cli\n"
        "from importlib.metadata import entry_points\n"
        "for name in ('sockets', 'wsrun'):\n"
        "    (point,) = entry_points(group='flask.commands', name=name)\n"
        "    assert point.load().name == name\n"
    ) - imported_by("import flask.cli, importlib.metadata")
    modules = "flask_sockets_cli.commands", "flask_sockets_cli.topic_commands"
    assert brought == {"flask_sockets_cli", *modules}


def test_warm_process_is_started_before_the_rest_is_imported() -> None:
    """It takes longer to start than the rest to be imported, meanwhile."""
    brought = imported_by(
        "import flask.cli\n"
        "from flask_sockets_cli import interpreter\n"
        "class Started(Exception): pass\n"
        "def start_interpreter(*args): raise Started\n"
        "interpreter.start_interpreter = start_interpreter\n"
        "try:\n"
        "    flask.cli.FlaskGroup().main(['wsrun', '--port', '0'])\n"
        "except Started:\n"
        "    print('started')\n"
    )
    assert "started" in brought
    assert "flask_sockets_cli.supervisor" not in brought
    assert "flask_sockets_cli.terminal" not in brought


def test_package_brings_nothing_with_it() -> None:
    """The processes that serve can import it before anything is patched."""
    brought = imported_by("import flask_sockets_cli") - imported_by("")
    assert {name.partition(".")[0] for name in brought} <= {
        *("flask_sockets_cli", *sys.stdlib_module_names)
    }


def test_nothing_is_imported_before_it_can_be_patched() -> None:
    """The warm process begins with modules of the standard library."""
    brought = imported_by("import flask_sockets_cli.warm.main") - imported_by("")
    tops = {name.partition(".")[0] for name in brought} - sys.stdlib_module_names
    assert tops == {"flask_sockets_cli"}


@pytest.mark.parametrize("folder", [watch, warm, serve], ids=lambda f: f.__name__)
def test_no_module_of_a_folder_imports_what_the_folder_never_imports(
    folder: t.Any,
) -> None:
    """Whatever becomes of a module, it can rely on what its folder says."""
    names = [
        f"{folder.__name__}.{module.name}"
        for module in pkgutil.iter_modules(folder.__path__)
    ]
    assert len(names) > 1
    found = imported_by(f"import {', '.join(names)}")
    assert within(found, folder.NEVER_IMPORTED) == set()


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals to process groups")
def test_real_processes_import_what_is_theirs(tmp_path: Path) -> None:
    """Whatever they have done until their end, nothing of the others is there."""
    write_app(tmp_path, more=WEBSOCKETS)
    (tmp_path / "sitecustomize.py").write_text(RECORD)

    with Process(
        *("flask", "--debug", "wsrun", "--port", "0", "--live", "--routes"),
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path)},
    ) as process:
        assert get(port_of(process)) == (200, "version 1")
        process.wait_for('"GET / HTTP/1.1" 200')
        process.signal_group(signal.SIGINT)
        assert process.wait() == 0

    for role, apart in APART.items():
        found = json.loads((tmp_path / f"{role}.json").read_text())
        assert f"{flask_sockets_cli.__name__}.settings" in found or role == "warm"
        assert within(found, apart) == set(), role
