"""The modules that the warm process has imported for the app: hidden from it until it
imports them itself, in the same order and under the same circumstances. So the app sees
what it would see if all of it was imported now.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import sys
import types
import typing as t

from ..files import is_third_party
from ..import_steps import Step
from .effects import Effects, Unrepeatable, renew_random


class Kept:
    """What is kept, for one load.

    :param environ: the environment variables under which that has been imported.
    :param learned: what has been imported, in that order.
    :param generators: other generators of random numbers that are to be seeded anew.
    """

    def __init__(
        self,
        environ: dict[str, str] | None = None,
        learned: t.Sequence[tuple[Step, Effects]] = (),
        generators: t.Sequence[random.Random] = (),
    ) -> None:
        self._environ = environ or {}
        self._waiting = collections.deque(learned)
        self._hidden = {name for _, effects in learned for name in effects.modules}
        self._generators = list(generators)

        for _, effects in learned:
            self._generators += effects.generators

    @property
    def is_used_up(self) -> bool:
        """Whether the app has imported all of it."""
        return not self._waiting

    def libraries(self) -> dict[str, int]:
        """The files of libraries that have been imported by now, each with the time it
        was modified, in nanoseconds.
        """
        hidden = (effects.modules for _, effects in self._waiting)
        modules = collections.ChainMap(*hidden, sys.modules)
        found = {}

        for module in modules.values():
            path = getattr(module, "__dict__", {}).get("__file__")

            if isinstance(path, str) and is_third_party(path):
                with contextlib.suppress(OSError):
                    found[path] = os.stat(path).st_mtime_ns

        return found

    def hides(self, name: str) -> bool:
        """Whether a module is hidden."""
        return name in self._hidden

    def start(self) -> None:
        """To be called in the process of the load, before it begins."""
        for _, effects in self._waiting:
            sys.modules |= effects.modules

        renew_random(self._generators)

        for _, effects in self._waiting:
            for name in effects.modules:
                del sys.modules[name]

    def why_not(self, name: str, origin: str | None) -> str | None:
        """Why a hidden module must not be shown; ``None`` if it may.

        :param origin: where it would be imported from now.
        """
        step, effects = self._waiting[0]

        if step.name != name:
            return "is imported before others"

        if dict(os.environ) != environ_of(step, self._environ):
            return "finds other environment variables"

        if sys.path != step.path:
            return "finds another path"

        spec = effects.modules[name].__spec__

        if spec is not None and spec.origin != origin:
            return "is found at another place"

        return None

    def show(self) -> tuple[Step, types.ModuleType]:
        """Show the module that is next, and what came by it.

        :raises Unrepeatable: if the app would see that it is not imported now.
        """
        step, effects = self._waiting.popleft()
        self._hidden.difference_update(effects.modules)
        effects.show()
        return step, effects.modules[step.name]

    def show_rest(self) -> None:
        """Show all, where no app will see it."""
        while self._waiting:
            with contextlib.suppress(Unrepeatable):
                self.show()


def environ_of(step: Step, environ: dict[str, str]) -> dict[str, str]:
    """The environment variables under which a step is done.

    :param environ: those under which the load begins.
    """
    values = {**environ, **step.environ}
    return {name: value for name, value in values.items() if value is not None}
