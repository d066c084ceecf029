"""What is kept imported across reloads: learned from loads of the app, and remembered
from one run to the next.
"""

from __future__ import annotations

import collections
import sys

from .files import current_directory
from .import_steps import Memory, Step, worth_learning
from .settings import Settings

#: How often in a row an import may turn out not to be the one that was learned.
_PATIENCE = 2


def learning_for(settings: Settings) -> Learning | None:
    """What learns for an app, ``None`` where that is unwanted, or may be unsafe."""
    # Elsewhere nothing tells what an import has started.
    if not (settings.learn and settings.reload and sys.platform == "linux"):
        return None

    directory = current_directory()

    if directory is None:
        return None

    return Learning(Memory(directory, settings.app, settings.preload))


class Learning:
    """Decides which imports a warm process does for the loads to come.

    :param memory: what earlier runs have learned.
    """

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._steps, self._left_out = memory.read()
        self._is_off = False
        self._unfit: collections.Counter[str] = collections.Counter()

    @property
    def steps(self) -> list[Step]:
        """What a warm process is to import; nothing if that is not worth it."""
        steps = [step for step in self._steps if step.name not in self._left_out]
        return steps if worth_learning(steps) and not self._is_off else []

    def learn(self, steps: list[Step]) -> None:
        """Take in what a load of the app has imported."""
        self._steps = steps

    def leave_out(self, name: str, reason: str, rest: bool = False) -> None:
        """Take note that an import is nothing for a warm process.

        :param reason: what it does, as the end of a sentence.
        :param rest: whether all later ones depend on what was left out.
        """
        if rest:
            names = [step.name for step in self._steps]
            self._steps = self._steps[: names.index(name)] if name in names else []
        else:
            self._left_out[name] = reason

    def note_unfit(self, name: str, reason: str) -> None:
        """Take note that a load was not as those before: it is likely that the app's
        imports have been edited, unless the next one is no different.

        :param name: the module, empty if it is the end of the load.
        """
        self._unfit[name] += 1

        if self._unfit[name] < _PATIENCE:
            return

        if name:
            self.leave_out(name, reason)
        else:
            self._is_off = True

    def note_fit(self) -> None:
        """Take note that a load was as those before."""
        self._unfit.clear()

    def remember(self) -> None:
        """Let later runs know."""
        self._memory.write(self.steps, self._left_out)
