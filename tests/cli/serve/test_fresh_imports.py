"""Modules of the app: what is imported is what their source says, compiled once."""

from __future__ import annotations

import importlib
import os
import sys
import types
import typing as t
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

from flask_sockets_cli.serve.fresh_imports import read_afresh

NAME = "module_of_the_app"


class Modules:
    """A directory with a module, and how often it has been compiled."""

    def __init__(self, directory: Path) -> None:
        self.compiled = 0
        self.cache = directory / "cache"
        self._source = directory / f"{NAME}.py"

    def write(self, source: str) -> None:
        """Write a source whose time says nothing."""
        self._source.write_text(source)
        os.utime(self._source, (1_700_000_000, 1_700_000_000))

    def load(self) -> types.ModuleType:
        """Import it as another process would."""
        sys.modules.pop(NAME, None)
        return importlib.import_module(NAME)

    def files(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.is_file()]


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Modules]:
    modules = Modules(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(modules.cache))
    compiled = SourceFileLoader.source_to_code

    def source_to_code(self: t.Any, data: t.Any, path: t.Any) -> types.CodeType:
        modules.compiled += 1
        return compiled(self, data, path)

    monkeypatch.setattr(SourceFileLoader, "source_to_code", source_to_code)
    # It is replaced for good, as a process does it that serves.
    monkeypatch.setattr(SourceFileLoader, "get_code", SourceFileLoader.get_code)
    read_afresh(lambda path, digest: None)
    yield modules
    sys.modules.pop(NAME, None)


def test_module_is_compiled_once(modules: Modules) -> None:
    """The next process takes what has been compiled, and finds no .pyc beside it."""
    modules.write("value = 1\n")

    for _ in range(3):
        assert modules.load().value == 1

    assert modules.compiled == 1
    assert not (modules.cache.parent / "__pycache__").exists()


def test_edit_of_the_same_second_and_size_is_imported(modules: Modules) -> None:
    """And so is the way back."""
    for value in (1, 2, 1):
        modules.write(f"value = {value}\n")
        assert modules.load().value == value


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:10],
        lambda data: data[:-1],
        lambda data: data[:30] + b"\xff" * 30 + data[60:],
        lambda data: bytes(len(data)),
    ],
    ids=["empty", "header", "short", "overwritten", "zeros"],
)
def test_damaged_file_is_compiled_anew(
    modules: Modules, damage: t.Callable[[bytes], bytes]
) -> None:
    """Whatever is in the user's cache directory, the module is what its source says."""
    modules.write("value = [1, 2, 3]\n")
    modules.load()
    (file,) = modules.files()
    file.write_bytes(damage(file.read_bytes()))
    assert modules.load().value == [1, 2, 3]
    assert modules.compiled == 2
    modules.load()
    assert modules.compiled == 2


def test_warning_of_the_compiler_comes_each_time(modules: Modules) -> None:
    """What the person would have to mend is not said once and never again."""
    modules.write("value = 1 is 1\n")

    for _ in range(2):
        with pytest.warns(SyntaxWarning, match='"is" with'):
            modules.load()


def test_nothing_is_kept_where_nothing_can_be(modules: Modules) -> None:
    """In place of the cache directory there is a file."""
    modules.write("value = 1\n")
    modules.cache.write_text("")
    assert modules.load().value == modules.load().value == 1
    assert modules.compiled == 2
