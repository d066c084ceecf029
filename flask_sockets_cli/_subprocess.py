"""The private part of Python that starting an interpreter needs: the options by which
this one was started, such as ``-W error`` or ``-X dev``. :mod:`multiprocessing` passes
them on by the same function.
"""

from __future__ import annotations

import subprocess
import typing as t

interpreter_options: t.Callable[[], list[str]] = subprocess._args_from_interpreter_flags  # type: ignore[attr-defined]
