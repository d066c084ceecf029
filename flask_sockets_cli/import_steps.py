"""The imports of installed modules that an app's load consists of, as they are told
from one process to the next and remembered from one run to the next.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import typing as t

from . import cache

#: Processor seconds that importing libraries takes at least to be worth learning.
WORTH_LEARNING = 0.1

#: The form of what is remembered.
_FORM = 1


@dataclasses.dataclass(frozen=True)
class Step:
    """One import of an installed module that code of the app asks for."""

    name: str
    #: The names of all modules that came by it, its own included.
    modules: list[str]
    #: Processor seconds that it took.
    seconds: float
    #: What was in :data:`sys.path`.
    path: list[str]
    #: The environment variables that were others than when the load began; ``None`` for
    #: one that was gone.
    environ: dict[str, str | None]


def worth_learning(steps: t.Iterable[Step]) -> bool:
    """Whether imports take so long that the next load is to find them done."""
    return sum(step.seconds for step in steps) >= WORTH_LEARNING


def names_of(steps: t.Iterable[Step]) -> list[str]:
    """The names of the libraries that cost most, those first."""
    seconds: dict[str, float] = {}

    for step in steps:
        name = step.name.partition(".")[0]

        if name not in sys.stdlib_module_names:
            seconds[name] = seconds.get(name, 0.0) + step.seconds

    return sorted(seconds, key=lambda name: seconds[name], reverse=True)


def to_json(steps: t.Iterable[Step]) -> list[dict[str, t.Any]]:
    """The steps for JSON. Most have the path of the one before, which is left out."""
    found = []
    path: list[str] | None = None

    for step in steps:
        values = vars(step) | {"path": None if step.path == path else step.path}
        path = step.path
        found.append(values)

    return found


def from_json(values: t.Iterable[t.Any]) -> list[Step]:
    """What :func:`to_json` has made.

    :raises TypeError: if it has not made that.
    """
    steps: list[Step] = []

    for each in values:
        step = Step(**each)

        if step.path is None:
            step = dataclasses.replace(step, path=steps[-1].path)

        if not (
            isinstance(step.name, str)
            and isinstance(step.seconds, float)
            and _are_strings(step.modules)
            and _are_strings(step.path)
            and isinstance(step.environ, dict)
        ):
            raise TypeError(step)

        steps.append(step)

    return steps


def _are_strings(values: t.Any) -> bool:
    return isinstance(values, list) and all(isinstance(each, str) for each in values)


class Memory:
    """A small file in the user's cache directory. It is the app's, and that of the
    Python that imports it.

    :param key: what tells the app from others.
    """

    def __init__(self, *key: object) -> None:
        python = (sys.executable, sys.version, sys.path, sys.flags, sys.warnoptions)
        self._path = cache.path_for("learned", *key, *python, suffix=".json")

    def read(self) -> tuple[list[Step], dict[str, str]]:
        """What :meth:`write` was given last, and nothing if that can't be read."""
        try:
            kept = json.loads(cache.read(self._path) or b"")

            if kept["form"] != _FORM or not _are_strings([*kept["left_out"].values()]):
                return [], {}

            return from_json(kept["steps"]), kept["left_out"]
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            return [], {}

    def write(self, steps: t.Iterable[Step], left_out: dict[str, str]) -> None:
        """Remember steps, up to the first one before which the app has set environment
        variables: they may be secrets.

        :param left_out: why some modules are no part of them, by their names.
        """
        kept = []

        for step in steps:
            if step.environ:
                break

            kept.append(step)

        values = {"form": _FORM, "steps": to_json(kept), "left_out": left_out}
        cache.write(self._path, json.dumps(values).encode())
