"""How long loading the app takes, and which libraries take most of that: those that are
worth keeping warm.
"""

from __future__ import annotations

import functools
import importlib.machinery
import sys
import time
import types
import typing as t

from ..files import is_library

#: The share of all the time that an import takes at least to be worth a word.
_WORTH_NAMING = 0.1
#: How many are named at most.
_MOST = 3

_Loader = importlib.machinery.SourceFileLoader


class ImportTimes:
    """Measures what happens in a ``with`` block: all of it, and the imports of
    third-party modules. What those import in turn is part of them.
    """

    def __init__(self) -> None:
        #: Seconds that the block took.
        self.total = 0.0
        self._seconds: dict[str, float] = {}
        self._importing = False

    def slowest(self) -> list[tuple[str, float]]:
        """The modules that cost most, with the seconds each took, the worst first."""
        found = sorted(self._seconds.items(), key=lambda item: item[1], reverse=True)
        return [item for item in found[:_MOST] if item[1] >= self.total * _WORTH_NAMING]

    def __enter__(self) -> ImportTimes:
        def create_module(
            loader: t.Any, spec: importlib.machinery.ModuleSpec
        ) -> types.ModuleType | None:
            # This is asked right before exec_module, which is replaced for the one
            # loader only: the tracebacks of the app's own modules stay as they are.
            if not self._importing and _is_third_party(spec):
                loader.exec_module = functools.partial(self._execute, loader)

            return None  # the usual kind of module

        _Loader.create_module = create_module  # type: ignore
        self._start = time.monotonic()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.total = time.monotonic() - self._start
        del _Loader.create_module  # back to the inherited one

    def _execute(self, loader: t.Any, module: types.ModuleType) -> None:
        del loader.exec_module
        start = time.monotonic()
        self._importing = True

        try:
            loader.exec_module(module)
        finally:
            self._importing = False
            self._seconds[module.__name__] = time.monotonic() - start


def _is_third_party(spec: importlib.machinery.ModuleSpec) -> bool:
    return (
        spec.name.partition(".")[0] not in sys.stdlib_module_names
        and spec.origin is not None
        and is_library(spec.origin)
    )
