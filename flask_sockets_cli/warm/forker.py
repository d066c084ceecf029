"""Forks servers from the warm process, one at a time, as the supervisor says."""

from __future__ import annotations

import _socket
import contextlib
import glob
import os
import select
import signal
import socket
import sys
import typing as t

from ..channel import Channel, Message
from ..keyboard import release
from ..signals import SIGNALS, leave_to_supervisor

#: What a server does: see :func:`flask_sockets_cli.serve.main.main`.
Serve = t.Callable[..., t.NoReturn]

# What is used here is taken before it is patched: the warm process is to block, not to
# run a hub of greenlets that a fork would copy.
_select = select.select
_waitpid = os.waitpid
_signal = signal.signal


class Forker:
    """Forks servers, one at a time.

    :param channel: the supervisor is at its other end.
    :param listener_fd: the listening socket.
    :param serve: what a server does.
    """

    def __init__(self, channel: Channel, listener_fd: int, serve: Serve) -> None:
        self._channel = channel
        self._listener_fd = listener_fd
        self._serve = serve
        self._child: int | None = None
        self._commands: Channel | None = None
        # Whether the supervisor wants it to end, which has another one.
        self._leaves = False
        # The interpreter writes to it when a child has ended.
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)
        _adopt_orphans()

    def loop(self, orders: t.Iterable[Message] = ()) -> None:
        """Do as the supervisor says until it is gone.

        :param orders: what it has said already.
        """
        signal.set_wakeup_fd(self._woken)
        _signal(signal.SIGCHLD, lambda number, frame: None)

        for message in orders:
            self._obey(message)

        while True:
            readable, _, _ = _select([self._channel.fileno(), self._wake], [], [])

            if self._wake in readable:
                os.read(self._wake, 4096)
                self._reap()

            if self._channel.fileno() in readable:
                messages = self._channel.receive()

                if messages is None:
                    # The supervisor is gone, so everything ends.
                    self._end()
                    return

                for message in messages:
                    self._obey(message)

    def _obey(self, message: Message) -> None:
        if message["do"] == "leave":
            self._leaves = True
        elif message["do"] == "load":
            self._fork(message)
        elif message["do"] == "kill":
            self._kill()
        elif self._commands is not None:
            self._commands.send(**message)

    def _fork(self, order: Message) -> None:
        import gevent.os

        # Not the patched socketpair, for the reason given above.
        ours, theirs = _socket.socketpair()
        # No signal comes before each of the two knows which one it is.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        child = gevent.os.fork_gevent()
        leave_to_supervisor()

        if child == 0:
            _die_with_parent()
            ours.close()
            signal.set_wakeup_fd(-1)
            _signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._wake)
            os.close(self._woken)
            self._serve(
                order,
                socket.socket(fileno=self._listener_fd),
                Channel(socket.socket(fileno=theirs.detach())),
                self._channel,
            )

        theirs.close()
        self._child = child
        self._commands = Channel(ours)

    def _kill(self) -> None:
        if self._child is not None:
            os.kill(self._child, signal.SIGKILL)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            # Orphans of a server are children of this process, too.
            while (found := _waitpid(-1, os.WNOHANG))[0] != 0:
                if found[0] == self._child:
                    self._child_ended(found[1])

    def _child_ended(self, status: int) -> None:
        assert self._commands is not None
        self._commands.close()
        self._child = self._commands = None
        _signal_orphans(signal.SIGTERM)
        self._channel.send(event="exited", status=os.waitstatus_to_exitcode(status))

    def _end(self) -> None:
        """End the server and what it leaves behind."""
        if not self._leaves:
            # The supervisor was killed. One that is there cares for the terminal by
            # itself, and may be reading keys from it.
            release()

        if self._child is not None:
            self._kill()
            _waitpid(self._child, 0)

        _signal_orphans(signal.SIGKILL)


def _adopt_orphans() -> None:
    """Become the parent of what servers have started, when the servers end."""
    _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def _signal_orphans(number: signal.Signals) -> None:
    """Send a signal to what an ended server has left behind, where the system tells who
    that is. What has a session of its own was meant to stay.
    """
    for pid in list(_descendants(os.getpid())):
        with contextlib.suppress(OSError):
            if os.getsid(pid) == os.getsid(0):
                os.kill(pid, number)


def _descendants(pid: int) -> t.Iterator[int]:
    for path in glob.iglob(f"/proc/{pid}/task/*/children"):
        with contextlib.suppress(OSError), open(path) as file:
            for child in map(int, file.read().split()):
                yield child
                yield from _descendants(child)


def _die_with_parent() -> None:
    """Have the system end this process when its parent ends, where it can do so.

    Elsewhere the process learns of it when it next waits for something.
    """
    _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _prctl(option: int, value: int) -> None:
    """Set an attribute of this process, where the system is Linux."""
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(option, value)
