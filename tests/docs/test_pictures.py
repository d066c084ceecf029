"""The pictures are what their scripts draw, and the drawings are true."""

from __future__ import annotations

import importlib.util
import re
import types
from pathlib import Path

import pytest

from ..documents import ROOT

PICTURES = ROOT / "docs/pictures"

#: What stands on no floor of its own.
EVERYWHERE = {"flask_sockets/exceptions", "flask_sockets/signals"}


def script(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, PICTURES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["architecture", "publish"])
def test_the_drawings_are_those_of_their_scripts(name: str) -> None:
    """Run the script again if it was changed."""
    assert (PICTURES / f"{name}.svg").read_text() == script(name).draw()


def test_the_terminal_is_drawn_from_what_it_shows() -> None:
    """The script still knows what to wait for. Times and numbers differ each time."""
    terminal = script("terminal")
    drawn = terminal.draw(terminal.record())
    for text in ("$ flask --app app wsrun --debug", "Reloaded in", "with 1012"):
        assert text in drawn
        assert text in (PICTURES / "terminal.svg").read_text()


def test_all_packages_are_in_the_drawing_of_the_architecture() -> None:
    """But for parts of one floor, such as a broker, which is one of the topics."""
    drawn = {part.path for floor in script("architecture").FLOORS for part in floor}
    packages = {
        str(path.parent.relative_to(ROOT))
        for top in ("flask_sockets", "flask_sockets_cli")
        for path in (ROOT / top).glob("*/__init__.py")
    }
    assert drawn - {"flask_sockets"} == packages


def test_each_floor_imports_only_what_is_below() -> None:
    """Types aside. Errors and signals are known everywhere."""
    floors = {
        part.path: number
        for number, floor in enumerate(script("architecture").FLOORS)
        for part in floor
    }
    for path, floor in floors.items():
        top = path.partition("/")[0]
        pattern = "*.py" if "/" not in path else "**/*.py"
        for file in (ROOT / path).glob(pattern):
            for target in imports_of(file, top) - EVERYWHERE:
                below = floors.get(target, floors["flask_sockets"])
                assert target == path or below >= floor, f"{file} imports {target}"


def imports_of(file: Path, top: str) -> set[str]:
    """The packages of ours that a file imports at its top level."""
    parents = file.relative_to(ROOT).parts[:-1]
    found = set()
    for dots, name in re.findall(r"^from (\.+)(\w*)", file.read_text(), re.MULTILINE):
        base = [*parents[: len(parents) - len(dots) + 1], name]
        found.add("/".join(base[:2]) if len(base) > 1 else top)
    for name, rest in re.findall(
        r"^from (flask_sockets\w*)(?:\.(\w+))?", file.read_text(), re.MULTILINE
    ):
        found.add(f"{name}/{rest}" if rest else name)
    return found
