"""Debuggers of IDEs, which follow the processes that the command starts.

Those of VS Code and PyCharm are pydevd, which runs in each process.
"""

from __future__ import annotations

import os
import sys


def is_attached() -> bool:
    """Whether such a debugger is in this process, and so in those it starts."""
    return "pydevd" in sys.modules


def environment() -> dict[str, str] | None:
    """The environment for a process that is patched by gevent, ``None`` for this one's.

    By ``GEVENT_SUPPORT`` pydevd keeps its own threads from becoming greenlets.
    """
    return {**os.environ, "GEVENT_SUPPORT": "True"} if is_attached() else None
