"""The warm process: has patched the standard library and imported the framework, and
forks a server for each load of the app, which then has little left to do.

It runs no code of the app and has a single thread, so it can be forked at any time and
is never stuck. Where there is no fork it becomes the server itself, and the supervisor
starts another for the next load.
"""

from __future__ import annotations

import _socket
import atexit
import base64
import contextlib
import os
import select
import signal
import socket
import sys
import traceback
import types
import typing as t

from .channel import Channel, Message
from .signals import SIGNALS
from .sources import imported_files, read_afresh

# What is used here is taken before it is patched: this process is to block, not to run
# a hub of greenlets that a fork would copy.
_select = select.select
_waitpid = os.waitpid
_signal = signal.signal


def main(
    channel_fd: int, listener_fd: int, forks: bool, preload: tuple[str, ...]
) -> None:
    """Warm up, then do as the supervisor says until it is gone.

    :param channel_fd: the socket the supervisor is at the other end of.
    :param listener_fd: the listening socket.
    :param forks: whether to fork a server for each load.
    :param preload: modules of the person's choice that are imported here, too.
    """
    ignore_interrupts()

    if sys.platform == "win32":
        channel_fd, listener_fd = (_take_over() for _ in range(2))

    channel = Channel(socket.socket(fileno=channel_fd))
    read: dict[str, str] = {}
    read_afresh(read.__setitem__)
    run = warm_up()

    if forks:
        import_modules(preload)

    channel.send(event="ready", files=read, imported=imported_files())

    if forks:
        Forker(channel, listener_fd, run).loop()
    else:
        channel.detach()
        become_server(channel_fd, listener_fd, run)


def ignore_interrupts() -> None:
    """Leave the signals that are sent to all processes at once to the supervisor, which
    lets WebSockets and requests end.
    """
    owner = os.getpid()

    def pass_over(number: int, frame: types.FrameType | None) -> None:
        # A process that the app forks has this handler, too, and is to end.
        if os.getpid() != owner:
            _do_default(number, frame)

    for number in SIGNALS:
        # Not SIG_IGN, which programs that the app starts inherit: as they should if it
        # comes from 'nohup'.
        if signal.getsignal(number) != signal.SIG_IGN:
            _signal(number, pass_over)

    if hasattr(signal, "pthread_sigmask"):
        # They have been blocked until here.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _do_default(number: int, frame: types.FrameType | None) -> None:
    """Do what a signal does in a process that has no handler of its own for it."""
    if number == signal.SIGINT:
        signal.default_int_handler(number, frame)

    _signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _take_over() -> int:
    """A socket that the supervisor hands over where sockets are not inherited."""
    shared = base64.b64decode(sys.stdin.buffer.readline())
    sock: socket.socket = socket.fromshare(shared)  # type: ignore[attr-defined]
    return sock.detach()


def warm_up() -> t.Callable[..., int]:
    """Patch, then import what every load needs. Return the server's function."""
    from gevent import monkey

    monkey.patch_all()

    import uuid

    import geventwebsocket.handler  # noqa: F401
    import jinja2.ext  # noqa: F401
    import websockets.server  # noqa: F401
    from werkzeug.debug import DebuggedApplication

    import flask_sockets  # noqa: F401

    from .environment import files
    from .server import run

    # That imports what reads them.
    files()

    # What the debugger looks up about the machine for its PIN takes a while.
    uuid.getnode()
    _ = DebuggedApplication(lambda environ, start_response: [], evalex=True).pin
    return run


def import_modules(names: t.Iterable[str]) -> None:
    """Import what the person wants to have warm. What fails is left to the app, which
    needs it or does not.
    """
    import importlib

    from .logs import say

    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            say(
                f"The module {name!r} can't be preloaded ({type(error).__name__}:"
                f" {error}). Use '--preload' with the name of a module that can be"
                " imported.",
                "bold",
                "yellow",
            )


class Forker:
    """Forks servers, one at a time."""

    def __init__(
        self,
        channel: Channel,
        listener_fd: int,
        run: t.Callable[..., int],
    ) -> None:
        self._channel = channel
        self._listener_fd = listener_fd
        self._run = run
        self._child: int | None = None
        self._commands: Channel | None = None
        # Written to by the interpreter when a child has ended.
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(self._woken, False)

    def loop(self) -> None:
        signal.set_wakeup_fd(self._woken)
        _signal(signal.SIGCHLD, lambda number, frame: None)

        while True:
            readable, _, _ = _select([self._channel.fileno(), self._wake], [], [])

            if self._wake in readable:
                os.read(self._wake, 4096)
                self._reap()

            if self._channel.fileno() in readable:
                messages = self._channel.receive()

                if messages is None:
                    # The supervisor is gone, so everything ends.
                    self._kill()
                    return

                for message in messages:
                    self._obey(message)

    def _obey(self, message: Message) -> None:
        if message["do"] == "load":
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
        ignore_interrupts()

        if child == 0:
            _die_with_parent()
            ours.close()
            signal.set_wakeup_fd(-1)
            _signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._wake)
            os.close(self._woken)
            serve_and_exit(
                self._run,
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
        if self._child is None:
            return

        pid, status = _waitpid(self._child, os.WNOHANG)

        if pid:
            assert self._commands is not None
            self._commands.close()
            self._child = self._commands = None
            self._channel.send(event="exited", status=os.waitstatus_to_exitcode(status))


def _die_with_parent() -> None:
    """Have the system end this process when its parent ends, where it can do so.

    Elsewhere the process learns of it when it next waits for something.
    """
    if sys.platform == "linux":
        with contextlib.suppress(ImportError, OSError, AttributeError):
            import ctypes

            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def become_server(
    channel_fd: int,
    listener_fd: int,
    run: t.Callable[..., int],
) -> None:
    """Serve the one load this process is for."""
    channel = Channel(socket.socket(fileno=channel_fd))

    while (messages := channel.receive()) is not None:
        for message in messages:
            if message["do"] == "load":
                listener = socket.socket(fileno=listener_fd)
                serve_and_exit(run, message, listener, channel, channel)


def serve_and_exit(run: t.Callable[..., int], *args: t.Any) -> t.NoReturn:
    """Run the server, then end the process at once.

    What an interpreter does when it ends takes longer than all the rest of a reload,
    and would wait for the app's threads. The app's own farewells are said.
    """
    status = 1

    try:
        status = run(*args)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()

        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()

        os._exit(status)
