"""The warm process as the supervisor sees it: started, talked with, ended."""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import subprocess
import sys
import threading
import typing as t

from .channel import Channel
from .debuggers import environment, is_attached
from .signals import blocked


class Gone(t.NamedTuple):
    """In the inbox: a process below has ended."""


def can_fork() -> bool:
    """Whether the warm process can fork servers."""
    # A debugger has threads in it, which a forked process would lack.
    return hasattr(os, "fork") and not is_attached()


def can_fork_with_libraries() -> bool:
    """Whether servers can be forked of a process that has imported any libraries."""
    # On macOS some of them use frameworks of the system, which may end a process that
    # is forked afterwards.
    return can_fork() and sys.platform != "darwin"


class WarmProcess:
    """The warm process.

    :param listener: the listening socket, for the servers.
    :param forks: whether the warm process forks servers, or becomes one itself.
    :param preload: modules that it imports besides what every load needs.
    :param inbox: where its messages go, each with this object, and :class:`Gone` when
        it has ended.
    """

    def __init__(
        self,
        listener: socket.socket,
        forks: bool,
        preload: tuple[str, ...],
        inbox: queue.SimpleQueue[tuple[object, object]],
    ) -> None:
        #: The files it has imported, of those that are no library's, once it is ready.
        self.files: frozenset[str] | None = None
        #: Whether another one is to take its place for the next load.
        self.is_outdated = False
        self._forks = forks
        ours, theirs = socket.socketpair()
        # The path comes first: else a file of the person's might be imported in place
        # of a module of the same name. Projects that were installed since this process
        # has started are in the path of the new one only.
        beginning = (
            f"import sys; path = {sys.path!r}; sys.argv[:] = {sys.argv!r};"
            " sys.path[:] = path + [p for p in sys.path[1:] if p not in path];"
            " from flask_sockets_cli.warm.main import main;"
        )
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]

        def command(*places: int) -> list[str]:
            return [*flags, "-c", f"{beginning} main({places!r}, {forks}, {preload!r})"]

        with theirs, blocked():
            if sys.platform == "win32":
                from ._windows import start

                self._process = start(command, environment(), (theirs, listener))
            else:
                places = (theirs.fileno(), listener.fileno())
                self._process = subprocess.Popen(
                    [sys.executable, *command(*places)],
                    env=environment(),
                    pass_fds=places,
                )

        self._channel = Channel(ours)
        threading.Thread(target=self._read, args=(inbox,), daemon=True).start()

    def note_changes(self, paths: t.Collection[str]) -> None:
        """Take note of files that have changed: it may have imported them."""
        if self.files is None or not self.files.isdisjoint(paths):
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
        if self._forks:
            # It ends its server, then itself.
            self._channel.shut_down()

            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)

        self._process.kill()
        self._process.wait()

    def _read(self, inbox: queue.SimpleQueue[tuple[object, object]]) -> None:
        while (messages := self._channel.receive()) is not None:
            for message in messages:
                inbox.put((self, message))

        self._channel.close()
        inbox.put((self, Gone()))
