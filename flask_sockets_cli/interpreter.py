"""Starts the interpreter of a warm process, which imports the framework before it hears
what it is for. The command starts the first one as early as it can, so this module
imports little.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import typing as t

from ._subprocess import interpreter_options
from .channel import Channel
from .debuggers import environment, is_attached
from .signals import blocked


def can_fork() -> bool:
    """Whether the warm process can fork servers."""
    # A debugger has threads in it, which a forked process would lack.
    return hasattr(os, "fork") and not is_attached()


def can_fork_with_libraries() -> bool:
    """Whether servers can be forked of a process that has imported any libraries."""
    # On macOS some of them use frameworks of the system, which may end a process that
    # is forked afterwards.
    return can_fork() and sys.platform != "darwin"


class Interpreter(t.NamedTuple):
    """A process that becomes a warm process when it is told what to prepare. It ends by
    itself when the other end of its channel is closed.
    """

    process: subprocess.Popen[bytes]
    channel: Channel
    #: Whether it forks servers, or becomes one itself.
    forks: bool


def start_interpreter(listener: socket.socket, forks: bool) -> Interpreter:
    """Start an interpreter for a warm process.

    :param listener: the listening socket, for the servers.
    :param forks: whether the warm process forks servers, or becomes one itself.
    """
    ours, theirs = socket.socketpair()
    # The path comes first: else a file of the person's might be imported in place of a
    # module of the same name. Projects that were installed since this process has
    # started are in the path of the new one only.
    beginning = (
        f"import sys; path = {sys.path!r}; sys.argv[:] = {sys.argv!r};"
        " sys.path[:] = path + [p for p in sys.path[1:] if p not in path];"
        " from flask_sockets_cli.warm.main import main;"
    )

    def command(*places: int) -> list[str]:
        return [*interpreter_options(), "-c", f"{beginning} main({places!r}, {forks})"]

    with theirs, blocked():
        if sys.platform == "win32":
            from ._windows import start

            process = start(command, environment(), (theirs, listener))
        else:
            places = (theirs.fileno(), listener.fileno())
            process = subprocess.Popen(
                [sys.executable, *command(*places)],
                env=environment(),
                pass_fds=places,
            )

    return Interpreter(process, Channel(ours), forks)
