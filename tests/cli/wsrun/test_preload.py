"""Slow imports: which are named, and how they are kept warm."""

from __future__ import annotations

import importlib
import os
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_sockets_cli.serve.imports import Imports

from ...process import port_of
from ..apps import get, write_app, wsrun

#: A library that takes its time, and keeps a record of its imports.
SLOW = """\
import time, pathlib
time.sleep({seconds})
with open(pathlib.Path(__file__).with_suffix(".imports"), "a") as file:
    file.write("imported\\n")
"""


@pytest.fixture
def libraries(tmp_path: Path) -> Path:
    """A directory of installed packages."""
    directory = tmp_path / "site-packages"
    directory.mkdir()
    return directory


@pytest.fixture
def clean_imports(libraries: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Imports from that directory, forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(libraries))
    yield

    for name in set(sys.modules) - before:
        del sys.modules[name]


def write_slow(directory: Path, name: str, seconds: float, more: str = "") -> Path:
    path = directory / f"{name}.py"
    path.write_text(SLOW.format(seconds=seconds) + more)
    return path


def imports_of(path: Path) -> int:
    return len(path.with_suffix(".imports").read_text().splitlines())


@pytest.mark.usefixtures("clean_imports")
def test_a_library_counts_with_all_it_imports(tmp_path: Path, libraries: Path) -> None:
    """Only what the app imports is named, the slowest first; its own modules are not,
    nor what costs nothing.
    """
    write_slow(libraries, "inner_library", 0.3)
    write_slow(libraries, "outer_library", 0.1, "import inner_library\n")
    write_slow(libraries, "other_library", 0.2)
    write_slow(libraries, "quick_library", 0)
    write_slow(libraries.parent, "own_module", 0.1)
    sys.path.insert(0, str(tmp_path))

    with Imports() as times:
        for name in ("own_module", "other_library", "outer_library", "quick_library"):
            importlib.import_module(name)

    names = [name for name, _ in times.slowest()]
    assert names == ["outer_library", "other_library"]
    assert times.total > sum(seconds for _, seconds in times.slowest())


@pytest.mark.usefixtures("clean_imports")
def test_imports_are_as_before_afterwards(libraries: Path) -> None:
    """Nothing is measured outside of the block, and failing leaves no trace."""
    (libraries / "failing_library.py").write_text("raise RuntimeError('no')\n")
    finders = [*sys.meta_path]

    with Imports(), pytest.raises(RuntimeError, match="no"):
        importlib.import_module("failing_library")

    assert sys.meta_path == finders

    with pytest.raises(RuntimeError, match="no"):
        importlib.import_module("failing_library")


def test_slow_imports_are_named_once_with_the_option_that_helps(
    tmp_path: Path, libraries: Path
) -> None:
    """A load that takes long names its slow libraries, a second one not again."""
    write_slow(libraries, "slow_library", 0.4)
    app = write_app(tmp_path, more="import slow_library\n")

    with wsrun(tmp_path, "--no-learn", env={"PYTHONPATH": str(libraries)}) as server:
        port = port_of(server)
        server.wait_for(
            r"Loading the app took \d+ ms, of that slow_library \d+ ms\. To keep them"
            r" imported: --preload slow_library\n"
        )
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")
        assert server.output.count("Loading the app took") == 1


def test_slow_code_of_the_app_is_not_blamed_on_libraries(
    tmp_path: Path, libraries: Path
) -> None:
    """An app that is slow by itself gets no advice that would not help."""
    write_slow(libraries, "quick_library", 0)
    app = write_app(tmp_path, more="import quick_library, time\n\ntime.sleep(0.4)\n")

    with wsrun(tmp_path, "--no-learn", env={"PYTHONPATH": str(libraries)}) as server:
        port_of(server)
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        assert "Loading the app took" not in server.output


def test_preloaded_module_is_imported_once(tmp_path: Path, libraries: Path) -> None:
    """What is kept warm is not imported again by a reload, and not named as slow."""
    slow = write_slow(libraries, "slow_library", 0.4)
    app = write_app(tmp_path, more="import slow_library\n")

    with wsrun(
        tmp_path, "--preload", "slow_library", env={"PYTHONPATH": str(libraries)}
    ) as server:
        port = port_of(server)
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")
        assert imports_of(slow) == 1
        assert "Loading the app took" not in server.output


def test_change_of_a_preloaded_module_is_served(tmp_path: Path) -> None:
    """A module of the person's own may be kept warm, too: an edit is never hidden by a
    .pyc, even if second and size are the same.
    """
    library = tmp_path / "library"
    library.mkdir()
    module = library / "own_library.py"

    def write_module(version: str) -> None:
        (library / "temporary").write_text(f"version = {version}\n")
        os.utime(library / "temporary", (1_700_000_000, 1_700_000_000))
        (library / "temporary").rename(module)

    write_module("0")
    # Another program has left one, as a test run or 'flask run' does.
    py_compile.compile(str(module))
    project = tmp_path / "project"
    project.mkdir()
    write_app(
        project,
        more="import own_library\n\n@app.route('/v')\ndef v():\n"
        "    return str(own_library.version)\n",
    )

    with wsrun(
        project, "--preload", "own_library", env={"PYTHONPATH": str(library)}
    ) as server:
        port = port_of(server)

        for version in "123":
            write_module(version)
            server.wait_for("Reloaded in")
            assert get(port, "/v") == (200, version)


def test_module_that_cannot_be_preloaded_is_one_sentence(tmp_path: Path) -> None:
    """A wrong name is told, and the app is served all the same."""
    write_app(tmp_path)

    with wsrun(tmp_path, "--preload", "no_such_library") as server:
        server.wait_for(
            r"The module 'no_such_library' can't be preloaded \(ModuleNotFoundError: No"
            r" module named 'no_such_library'\)\. Use '--preload' with"
        )
        assert get(port_of(server)) == (200, "version 1")
        assert "Traceback" not in server.output


def test_traceback_of_a_failing_library_has_nothing_of_the_server(
    tmp_path: Path, libraries: Path
) -> None:
    """The frames that measure an import are not the person's business."""
    (libraries / "failing_library.py").write_text("raise RuntimeError('no luck')\n")
    write_app(tmp_path, more="import failing_library\n")

    with wsrun(tmp_path, env={"PYTHONPATH": str(libraries)}) as server:
        port_of(server)
        assert "RuntimeError: no luck" in server.output
        assert server.output.count("  File ") == 2
        assert "flask_sockets_cli" not in server.output
