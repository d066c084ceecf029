"""What each process is called in ``ps``, ``top`` and ``pstree``."""

from __future__ import annotations

import contextlib

WATCHES = "wsrun: watches"
KEEPS_WARM = "wsrun: warm"
SERVES = "wsrun: serves"


def name_process(name: str) -> None:
    """Give this process a name, where the system is Linux.

    :param name: at most 15 bytes. The command line remains what it is: there is no way
        to another one but to write over the memory it is in.
    """
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(name)
