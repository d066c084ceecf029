"""Imports what loads of the app have imported, and makes sure after each import that
the process can be forked at any time, and that the app won't see a difference.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import locale
import logging
import os
import random
import signal
import socket
import sys
import threading
import typing as t
import warnings

from ..files import current_directory, is_library
from ..import_steps import Step
from ..serve.effects import Effects, Unrepeatable
from ..serve.kept import Kept, environ_of
from . import _gevent

#: Seconds after which an import is taken to be stuck.
_PATIENCE = 120


class LeftOut(Exception):
    """An import is nothing for a process that is forked.

    :param name: the module.
    :param reason: what the import does, as the end of a sentence.
    :param rest: whether the app's later imports have to be left out, too.
    """

    def __init__(self, name: str, reason: str, rest: bool) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason
        self.rest = rest


class OtherModules(Unrepeatable):
    """An import was another one than in the app, where others came before it that are
    left out here.
    """


def repeat(
    steps: t.Iterable[Step],
    generators: t.Sequence[random.Random],
    trying: t.Callable[[str], object],
) -> Kept:
    """Import modules as a load of the app has imported them.

    :param generators: what is to be seeded anew in each server besides.
    :param trying: called with the name of each before it is imported, which may be the
        end of the process.
    :raises LeftOut: if one must not be imported here. It is now, so that the process
        serves nobody.
    """
    environ = dict(os.environ)
    path = [*sys.path]
    learned = []

    for step in steps:
        trying(step.name)
        signal.alarm(_PATIENCE)

        try:
            learned.append((step, _do(step, environ)))
        except Unrepeatable as error:
            rest = isinstance(error, OtherModules)
            raise LeftOut(step.name, str(error), rest) from error
        finally:
            signal.alarm(0)

    _set_environ(environ)
    sys.path[:] = path

    for _, effects in reversed(learned):
        effects.hide()

    # What is here stays, so that no forked process has to look through it for garbage,
    # and copy its pages as it does. To look through it now would delay the first load.
    gc.freeze()
    return Kept(environ, learned, generators)


def _do(step: Step, environ: dict[str, str]) -> Effects:
    """Do one import.

    :param environ: the environment variables under which the load begins.
    """
    _set_environ(environ_of(step, environ))
    sys.path[:] = step.path
    effects = Effects()
    settings = _settings()
    descriptors = _descriptors()
    had_hub = _gevent.has_hub()

    with effects.recorded():
        try:
            importlib.import_module(step.name)
        except BaseException as error:
            raise Unrepeatable(f"raises {type(error).__name__}") from error

    if effects.modules.keys() != {*step.modules}:
        raise OtherModules("brings other modules than in the app")

    for module in effects.modules.values():
        file = getattr(module, "__dict__", {}).get("__file__")

        if isinstance(file, str) and not is_library(file):
            raise Unrepeatable("imports a module that is not installed")

    for what, value in _settings().items():
        if settings[what] != value:
            raise Unrepeatable(f"changes {what}")

    _stay_forkable(descriptors, had_hub)
    return effects


def _stay_forkable(descriptors: set[tuple[str, str]], had_hub: bool) -> None:
    """Make sure that a forked process would lack nothing, and share nothing.

    :param descriptors: the file descriptors before the import.
    :raises Unrepeatable: if it would.
    """
    opened = _descriptors() - descriptors

    if _gevent.has_hub():
        if not _gevent.is_hub_unused():
            raise Unrepeatable("makes greenlets")

        if not had_hub:
            opened = {each for each in opened if not each[1].startswith("anon_inode:")}

    if opened:
        raise Unrepeatable("opens files")

    if not _forks_with_one_thread():
        raise Unrepeatable("starts threads")

    with contextlib.suppress(ChildProcessError):
        _gevent.waitpid(-1, os.WNOHANG)
        raise Unrepeatable("starts processes")


def _forks_with_one_thread() -> bool:
    """Whether this process has a single thread when it is forked. Some libraries end
    theirs before that, and start them again when they need them (pthread_atfork(3)):
    OpenBLAS does, which is what numpy computes with.
    """
    if len(os.listdir("/proc/self/task")) == 1:
        return True

    with warnings.catch_warnings():
        # Python warns of what is found out here.
        warnings.simplefilter("ignore")
        pid = _gevent.fork()

    if pid == 0:
        os._exit(0)

    _gevent.waitpid(pid, 0)
    return len(os.listdir("/proc/self/task")) == 1


def _descriptors() -> set[tuple[str, str]]:
    """The open file descriptors, each with what it stands for."""
    found = set()

    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found.add((fd, os.readlink(f"/proc/self/fd/{fd}")))

    return found


def _settings() -> dict[str, object]:
    """What a process has once, as the end of a sentence, and how it is set."""
    root = logging.getLogger()
    mask = os.umask(0)
    os.umask(mask)
    return {
        "the handlers of signals": [
            signal.getsignal(number) for number in signal.valid_signals()
        ],
        "the locale": locale.setlocale(locale.LC_ALL),
        "the current directory": current_directory(),
        "the file mode mask": mask,
        "the path of modules": [*sys.path],
        "the arguments of the command": [*sys.argv],
        "the log": (root.level, [*root.handlers], [*root.filters]),
        "the class of loggers": logging.getLoggerClass(),
        "hooks of the interpreter": (
            sys.excepthook,
            sys.displayhook,
            sys.unraisablehook,
            threading.excepthook,
            sys.gettrace(),
            sys.getprofile(),
            warnings.showwarning,
        ),
        "the standard streams": (sys.stdin, sys.stdout, sys.stderr),
        "limits of the interpreter": (
            sys.getrecursionlimit(),
            sys.getswitchinterval(),
            gc.isenabled(),
            gc.get_threshold(),
        ),
        "the timeout of sockets": socket.getdefaulttimeout(),
    }


def _set_environ(values: dict[str, str]) -> None:
    for name in [*os.environ]:
        if name not in values:
            del os.environ[name]

    for name, value in values.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
