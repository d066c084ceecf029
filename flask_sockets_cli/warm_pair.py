"""The two warm processes: the present one, which the servers are forked of, and the
learner, which imports more meanwhile and takes its place for the next load.
"""

from __future__ import annotations

import queue
import socket
import typing as t

from .import_steps import Step
from .interpreter import Interpreter, can_fork_with_libraries, start_interpreter
from .learning import learning_for
from .settings import Settings
from .warm_process import Preparation, WarmProcess


class WarmPair:
    """Starts warm processes, and decides which one does the next load.

    :param settings: what the command was asked for.
    :param listener: the listening socket, for the servers.
    :param interpreter: what becomes the first warm process.
    :param inbox: where the processes put their messages.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        interpreter: Interpreter,
        inbox: queue.SimpleQueue[tuple[object, object]],
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._forks = interpreter.forks
        self._interpreter: Interpreter | None = interpreter
        self._inbox = inbox
        #: Whether they may import libraries for the servers to come.
        self.keeps_libraries = self._forks and can_fork_with_libraries()
        self._learning = learning_for(settings) if self.keeps_libraries else None
        #: What the servers are forked of, ``None`` before it is started, and when it
        #: has ended by itself.
        self.present: WarmProcess | None = None
        #: What has imported more, or is about to, if anything is learned.
        self.learner: WarmProcess | None = None

    @property
    def learns(self) -> bool:
        """Whether anything is learned."""
        return self._learning is not None

    def all(self) -> list[WarmProcess]:
        """List the processes that there are now."""
        return [each for each in (self.present, self.learner) if each is not None]

    def start(self) -> None:
        """Start the first one. It imports what earlier runs have learned."""
        self.present = self._new([] if self._learning is None else self._learning.steps)

    def end(self) -> None:
        """End both, and the server, at once."""
        for process in self.all():
            process.end()

    def for_next_load(self) -> WarmProcess:
        """Decide which one does the next load, and let the one go that did the last."""
        old = self.present

        if self.learner is not None and self.learner.can_take_over:
            self.present, self.learner = self.learner, None
        elif old is not None and old.is_outdated:
            self.present = None

        if self.present is None:
            # The new one does not import what was learned, which may be why there is no
            # other.
            self.present = self._new([])

        if old is not None and old is not self.present:
            old.leave()

        return self.present

    def lose_present(self) -> WarmProcess:
        """Take note that the present one has ended, and return it."""
        assert self.present is not None
        lost, self.present = self.present, None
        lost.end()
        return lost

    # What makes them out of date

    def note_changes(self, paths: t.Collection[str]) -> None:
        """Take note of files that have changed."""
        for process in self.all():
            process.note_changes(paths)

    def note_libraries(self) -> None:
        """Take note of libraries that have been edited."""
        for process in self.all():
            process.note_libraries()

    def expire(self) -> None:
        """Have none of those that there are do the next load."""
        for process in self.all():
            process.is_outdated = True

    # What is learned

    def note_load(self, steps: list[Step]) -> None:
        """Take note of a load that is being served, and see to it that the next one
        finds its imports done.

        :param steps: what it has imported, if that is to be learned.
        """
        if self._learning is None:
            return

        if self.present is not None and self.present.steps:
            self._learning.note_fit()

        if steps:
            self._learning.learn(steps)
            self._start_learner()

    def note_unfit(self, name: str, reason: str) -> None:
        """Take note that a load was not as those before.

        :param name: the module, empty if it is the end of the load.
        :param reason: what it does, as the end of a sentence.
        """
        assert self._learning is not None
        self._learning.note_unfit(name, reason)

        if self.present is not None:
            self.present.is_outdated = True

    def note_end(self, process: WarmProcess) -> bool:
        """Take note of why a process has ended that nobody has told to.

        :return: whether that may be due to what was learned.
        """
        if self._learning is None or not process.steps:
            return False

        process.tell_end(self._learning)
        return True

    def remember(self) -> None:
        """Let later runs know what was learned: the learner has imported it."""
        assert self._learning is not None
        self._learning.remember()

    def replace_learner(self) -> None:
        """Take note that the learner has ended. Another one leaves out what it is due
        to.
        """
        assert self.learner is not None
        lost, self.learner = self.learner, None
        lost.leave()
        self.note_end(lost)
        self._start_learner()

    def _start_learner(self) -> None:
        """Have another process import what was learned, if none has done so, or is
        about to.
        """
        assert self._learning is not None
        steps = self._learning.steps

        if any(process.does(steps) for process in self.all()):
            return

        if self.learner is not None:
            self.learner.leave()
            self.learner = None

        if steps:
            self.learner = self._new(steps)

    def _new(self, steps: list[Step]) -> WarmProcess:
        settings = self._settings
        interpreter, self._interpreter = self._interpreter, None
        return WarmProcess(
            interpreter or start_interpreter(self._listener, self._forks),
            Preparation(
                preload=settings.preload if self.keeps_libraries else (),
                steps=steps,
                dotenv=(settings.dotenv, settings.env_file, settings.dotenv_defaults),
                reload=settings.reload,
            ),
            self._inbox,
        )
