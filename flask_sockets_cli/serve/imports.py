"""The imports of libraries that code of the app asks for: what they cost, and which of
them the warm process has done already.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
import time
import types
import typing as t

from ..files import is_library
from ..import_steps import Step
from .effects import Unrepeatable, is_namespace
from .kept import Kept

#: The share of all the time that an import takes at least to be worth a word.
_WORTH_NAMING = 0.1
#: How many are named at most.
_MOST = 3

_Spec = importlib.machinery.ModuleSpec


class Imports:
    """Finds out what is imported in a ``with`` block. What the libraries import in turn
    is part of what they cost.

    :param kept: what has been imported already.
    :param give_up: called, and never to return, with a name and a reason where the app
        would see that: the load has to be done in another process.
    """

    def __init__(
        self,
        kept: Kept | None = None,
        give_up: t.Callable[[str, str], t.NoReturn] | None = None,
    ) -> None:
        #: Seconds that the block took.
        self.total = 0.0
        #: All imports, also those that were done already.
        self.steps: list[Step] = []
        #: The imports that were not done already.
        self.new: list[Step] = []
        self._kept = kept or Kept()
        self._give_up = give_up
        self._seconds: dict[str, float] = {}
        self._is_importing = False

    def slowest(self) -> list[tuple[str, float]]:
        """The third-party modules that cost most, with the seconds each took, the worst
        first.
        """
        found = sorted(
            (
                (name, seconds)
                for name, seconds in self._seconds.items()
                if name.partition(".")[0] not in sys.stdlib_module_names
            ),
            key=lambda item: item[1],
            reverse=True,
        )
        return [item for item in found[:_MOST] if item[1] >= self.total * _WORTH_NAMING]

    def __enter__(self) -> Imports:
        self._environ = dict(os.environ)
        self._start = time.monotonic()
        sys.meta_path.insert(0, self)
        return self

    def __exit__(self, error: type[BaseException] | None, *exc_info: object) -> None:
        self.total = time.monotonic() - self._start
        sys.meta_path.remove(self)

    def find_spec(
        self, name: str, path: t.Any = None, target: types.ModuleType | None = None
    ) -> _Spec | None:
        """What import asks for each module that is not there."""
        hidden = self._kept.hides(name)

        if self._is_importing and not hidden:
            return None

        spec = self._find(name, path, target)

        if (
            spec is not None
            and hasattr(spec.loader, "exec_module")
            and (hidden or spec.origin is None or is_library(_origin_of(spec)))
        ):
            # Not before it is imported: some only ask whether there is such a module.
            spec.loader = t.cast(t.Any, _Loader(self, spec))

        return spec

    def _find(
        self, name: str, path: t.Any, target: types.ModuleType | None
    ) -> _Spec | None:
        for finder in sys.meta_path:
            if finder is not self:
                find_spec = getattr(finder, "find_spec", None)
                spec = None if find_spec is None else find_spec(name, path, target)

                if spec is not None:
                    return t.cast(_Spec, spec)

        return None

    def take_kept(self, name: str, origin: str | None) -> types.ModuleType | None:
        """The module if it has been imported already."""
        if not self._kept.hides(name):
            return None

        reason = (
            "is imported by what is not kept"
            if self._is_importing
            else self._kept.why_not(name, origin)
        )

        try:
            if reason is None:
                step, module = self._kept.show()
                self.steps.append(step)
                return module
        except Unrepeatable as error:
            reason = str(error)

        assert self._give_up is not None
        self._give_up(name, reason or "")

    def execute(self, loader: t.Any, module: types.ModuleType) -> None:
        """Do an import."""
        if self._is_importing:
            loader.exec_module(module)
            return

        name = module.__name__
        environ = _changed(self._environ, dict(os.environ))
        path = [*sys.path]
        before = set(sys.modules)
        start, used = time.monotonic(), time.process_time()
        self._is_importing = True

        try:
            loader.exec_module(module)
        finally:
            self._is_importing = False
            self._seconds[name] = time.monotonic() - start

        modules = [
            each
            for each, found in list(sys.modules.items())
            if each not in before and not is_namespace(found)
        ]
        step = Step(name, [name, *modules], time.process_time() - used, path, environ)
        self.steps.append(step)
        self.new.append(step)


class _Loader:
    """Loads a module as another loader would, unless it is there already."""

    def __init__(self, imports: Imports, spec: _Spec) -> None:
        self._imports = imports
        self._spec = spec
        self._loader: t.Any = spec.loader
        self._kept: types.ModuleType | None = None

    def create_module(self, spec: _Spec) -> types.ModuleType | None:
        self._kept = self._imports.take_kept(spec.name, spec.origin)

        if self._kept is not None:
            # Python gives the module the new specification next.
            self._own_spec = self._kept.__spec__
            return self._kept

        create_module = getattr(self._loader, "create_module", None)
        return None if create_module is None else create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        if self._kept is not None:
            module.__spec__ = self._own_spec
            return

        self._spec.loader = self._loader

        if getattr(module, "__loader__", None) is self:
            module.__loader__ = self._loader

        self._imports.execute(self._loader, module)

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._loader, name)


def _origin_of(spec: _Spec) -> str:
    return spec.origin if spec.has_location and spec.origin else "<built-in>"


def _changed(before: dict[str, str], now: dict[str, str]) -> dict[str, str | None]:
    return {
        name: now.get(name)
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    }
