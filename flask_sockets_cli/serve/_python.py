"""The private parts of Python that the server needs."""

from __future__ import annotations

import atexit
import contextlib
import sys
import threading
import typing as t


def say_farewells() -> None:
    """Do what the interpreter does at the end of a program, as far as it takes no time:
    the processes of :mod:`multiprocessing` end, and what the app has registered with
    :mod:`atexit` is called. Threads are not waited for.
    """
    multiprocessing = sys.modules.get("multiprocessing")

    for process in multiprocessing.active_children() if multiprocessing else ():
        process.terminate()

    for farewell in _farewells_of_threads():
        with contextlib.suppress(Exception):
            farewell()

    atexit._run_exitfuncs()


def _farewells_of_threads() -> list[t.Callable[[], object]]:
    """What is called before all that is registered with :mod:`atexit`: the executors of
    :mod:`concurrent.futures` let their workers end. Those that are threads would be
    waited for, whatever they do, and end with the process anyway.
    """
    return [
        farewell
        for farewell in reversed(getattr(threading, "_threading_atexits", []))
        if getattr(getattr(farewell, "func", farewell), "__module__", "")
        != "concurrent.futures.thread"
    ]
