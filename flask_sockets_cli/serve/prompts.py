"""Questions that the app asks in the terminal, pdb's above all: the answers go to who
asks, and no key of them to the command.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import sys
import typing as t

import gevent

from ..keyboard import claim, release

#: Seconds after an answer in which the next question is waited for. While pdb asks, no
#: greenlet runs, and no timer.
_NEXT_QUESTION = 0.5

_Result = t.TypeVar("_Result")


def keep_answers_from_the_command() -> None:
    """From now on, release the terminal for whoever reads from it in this process."""
    if sys.stdin is None or not os.isatty(0):
        return

    # pdb looks for it at each prompt.
    builtins.input = _asking(builtins.input)
    sys.breakpointhook = _asking(sys.breakpointhook)
    sys.stdin = io.TextIOWrapper(
        io.BufferedReader(_Answers(0, closefd=False)),
        encoding=sys.stdin.encoding,
        errors=sys.stdin.errors,
    )


def _asking(ask: t.Callable[..., _Result]) -> t.Callable[..., _Result]:
    @functools.wraps(ask)
    def ask_person(*args: t.Any, **kwargs: t.Any) -> _Result:
        if not release():
            return ask(*args, **kwargs)

        try:
            return ask(*args, **kwargs)
        finally:
            _claim_soon()

    return ask_person


class _Answers(io.FileIO):
    """The terminal, read directly."""

    def readinto(self, buffer: t.Any) -> int | None:
        return _asking(super().readinto)(buffer)

    def readall(self) -> bytes:
        return _asking(super().readall)()


def _claim_soon() -> None:
    timer = gevent.get_hub().loop.timer(_NEXT_QUESTION, ref=False)
    timer.start(claim)
