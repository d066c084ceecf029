"""The warm process as the supervisor sees it: told what to do, listened to, ended."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import threading
import typing as t

from .channel import Message
from .import_steps import Step, to_json
from .interpreter import Interpreter

if t.TYPE_CHECKING:
    from .learning import Learning


class Gone(t.NamedTuple):
    """In the inbox: a process below has ended."""


class Preparation(t.NamedTuple):
    """What a warm process imports besides what every load needs."""

    #: Modules of the person's choice.
    preload: tuple[str, ...]
    #: What earlier loads have imported.
    steps: list[Step]
    #: What :func:`flask_sockets_cli.dotenv_files.read_again` takes.
    dotenv: tuple[dict[str, str], str | None, bool]
    #: Whether there is a reloader.
    reload: bool


class WarmProcess:
    """The warm process.

    :param interpreter: what becomes the warm process.
    :param preparation: what it imports besides what every load needs.
    :param inbox: where its messages go, each with this object, and :class:`Gone` when
        it has ended.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        preparation: Preparation,
        inbox: queue.SimpleQueue[tuple[object, object]],
    ) -> None:
        self._process, self._channel, self._forks = interpreter
        #: The files it has imported, of those that are no library's, once it is ready.
        self.files: frozenset[str] | None = None
        #: Whether another one is to take its place for the next load.
        self.is_outdated = False
        #: What it has imported for the app, if it is ready.
        self.steps = preparation.steps if self._forks else []
        self._libraries: dict[str, int] = {}
        # The module that it imports, and the one that is nothing for it, with a reason
        # and whether all later ones are part of that.
        self._trying: str | None = None
        self._left_out: tuple[str, str, bool] | None = None
        self._prepares = self._forks and bool(preparation.preload or preparation.steps)
        self._env_file = preparation.dotenv[1]
        self._channel.send(
            do="prepare",
            **preparation._asdict() | {"steps": to_json(preparation.steps)},
        )

        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    @property
    def can_take_over(self) -> bool:
        """Whether it has imported what it is to import, and that is up to date."""
        return self.files is not None and not self.is_outdated

    def does(self, steps: list[Step]) -> bool:
        """Whether it has done these imports, or is about to, as they are to be done."""
        return not self.is_outdated and [
            (step.name, step.environ, step.path) for step in self.steps
        ] == [(step.name, step.environ, step.path) for step in steps]

    def take(self, message: Message) -> None:
        """Take in what it says of itself."""
        match message["event"]:
            case "ready":
                self.files = frozenset({*message["files"], *message["imported"]})
                self._libraries = message["libraries"]
            case "trying":
                self._trying = message["name"]
            case "left_out":
                self._left_out = (message["name"], message["reason"], message["rest"])

    def tell_end(self, learning: Learning) -> None:
        """Tell why it has not got as far as to be ready."""
        if self._left_out is not None:
            learning.leave_out(*self._left_out)
        elif self._trying is not None:
            learning.leave_out(self._trying, "ends the process, or takes too long")
        else:
            learning.learn([])

    def note_libraries(self) -> None:
        """Take note of libraries that have been edited since it imported them."""
        for path, modified in self._libraries.items():
            try:
                if os.stat(path).st_mtime_ns == modified:
                    continue
            except OSError:
                pass

            self.is_outdated = True
            return

    def note_changes(self, paths: t.Collection[str]) -> None:
        """Take note of files that have changed: it may have imported them."""
        from .watch.rules import DOTENV_NAMES

        if self._prepares and any(
            path == self._env_file or os.path.basename(path) in DOTENV_NAMES
            for path in paths
        ):
            # Libraries may have read the variables.
            self.is_outdated = True
        elif self.files is None:
            # What was learned is all of libraries.
            self.is_outdated = self.is_outdated or not self.steps
        elif not self.files.isdisjoint(paths):
            self.is_outdated = True

    def send(self, **message: t.Any) -> None:
        """Tell it something. Nothing is said to one that is gone."""
        self._channel.send(**message)

    def kill_server(self) -> None:
        """End the server at once, whatever it is doing."""
        if self._forks:
            self._channel.send(do="kill")
        else:
            self._process.kill()

    def end(self) -> None:
        """End it, and its server, at once."""
        if self._forks and self.files is not None:
            # It ends its server, then itself.
            self._channel.send(do="leave")
            self._channel.shut_down()

            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)

        self._process.kill()
        self._process.wait()

    def leave(self) -> None:
        """Let it end, and wait for that elsewhere: others are waited for here."""
        threading.Thread(target=self.end).start()

    def _read(self, inbox: queue.SimpleQueue[tuple[object, object]]) -> None:
        while (messages := self._channel.receive()) is not None:
            for message in messages:
                inbox.put((self, message))

        self._channel.close()
        inbox.put((self, Gone()))
