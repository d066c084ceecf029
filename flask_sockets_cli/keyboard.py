"""The keys that a person presses in the terminal: they reach the command one by one as
long as the terminal is claimed for it.

The terminal itself is what all processes agree by. Who asks something releases it for
as long, so no key that answers pdb is one for the command, and the other way round.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import typing as t

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment, unused-ignore]

#: Seconds from when a key is there to when it is read, if it is nobody else's, and from
#: one look to the next if it is.
_LOOK = 0.1
#: What a claimed terminal is known by: how long it waits for one key after another, in
#: tenths of a second. That means nothing to who reads one at a time, and other programs
#: that do have a 0 there.
_MARK = 1


class Keys:
    """Reads keys in a thread of its own, from :meth:`claim` on.

    :param put: called with each key, in that thread.
    """

    def __init__(self, put: t.Callable[[str], object]) -> None:
        self._put = put
        self._thread: threading.Thread | None = None
        self._stop, self._stopped = os.pipe()

    @staticmethod
    def are_there() -> bool:
        """Whether there is a terminal, with a person who presses keys and sees more."""
        return termios is not None and all(
            stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)
        )

    def claim(self) -> None:
        """Let the keys reach this object until somebody asks something, or the server
        ends.
        """
        claim()

        if self._thread is None:
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Read no more keys, and release the terminal."""
        os.close(self._stopped)
        release()

    def _read(self) -> None:
        while True:
            readable, _, _ = select.select([0, self._stop], [], [])

            if self._stop in readable:
                return

            # Prompts of IPython leave the terminal as it was for a moment, before the
            # next one: what is typed in that moment is for the next one.
            select.select([self._stop], [], [], _LOOK)

            with contextlib.suppress(OSError):
                # Else reading would stop the process, or take somebody's answer.
                if _is_in_foreground() and is_claimed() and _is_there_a_key():
                    for key in os.read(0, 64).decode(errors="replace"):
                        self._put(key)


def is_claimed() -> bool:
    """Whether keys reach the command."""
    if termios is None:
        return False

    try:
        settings = termios.tcgetattr(0)
    except (OSError, termios.error):
        return False  # no terminal

    reads_lines = settings[3] & (termios.ICANON | termios.ECHO)
    # Prompts that start from these settings turn off more, but for the mark.
    is_raw = not (settings[3] & termios.ISIG and settings[0] & termios.ICRNL)
    return not (reads_lines or is_raw) and settings[6][termios.VTIME] == _MARK


def claim() -> None:
    """Let keys reach the command, unless the terminal is another program's now."""
    if termios is None:
        return

    with contextlib.suppress(OSError, termios.error):
        if _is_in_foreground():
            settings = termios.tcgetattr(0)
            settings[3] &= ~(termios.ICANON | termios.ECHO)
            settings[6][termios.VMIN] = 1
            settings[6][termios.VTIME] = _MARK
            termios.tcsetattr(0, termios.TCSANOW, settings)


def release() -> bool:
    """Let whoever reads from the terminal get lines, and the person see them.

    :return: whether the keys have reached the command until now.
    """
    if not is_claimed():
        return False

    settings = termios.tcgetattr(0)
    settings[3] |= termios.ICANON | termios.ECHO
    settings[6][termios.VTIME] = 0

    # A process in the background is to do this as well, and not to be stopped: the
    # command may have been killed, and a shell be in its place.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})

    try:
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(0, termios.TCSANOW, settings)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return True


def _is_there_a_key() -> bool:
    return bool(select.select([0], [], [], 0)[0])


def _is_in_foreground() -> bool:
    return os.tcgetpgrp(0) == os.getpgrp()
