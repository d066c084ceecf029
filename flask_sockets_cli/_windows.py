"""How the warm process is started on Windows, where sockets are not inherited but
shared with a process by its number. No test has run any of it.
"""

from __future__ import annotations

import base64
import os
import socket
import subprocess
import sys
import typing as t

assert sys.platform == "win32"

import msvcrt  # noqa: E402


def start(
    command: t.Callable[[int], list[str]],
    env: t.Mapping[str, str] | None,
    sockets: t.Iterable[socket.socket],
) -> subprocess.Popen[bytes]:
    """Start this interpreter once more, and share sockets with it.

    :param command: makes the arguments of the interpreter, from the handle where the
        process finds out about the sockets: see :func:`take_over`. Its standard input
        remains the person's, who may be asked by pdb.
    """
    env = dict(os.environ if env is None else env)
    # In a virtual environment the one that is started by this name would start another
    # one, which the sockets would not be shared with. The variable tells the other one
    # where it belongs: as in 'multiprocessing.popen_spawn_win32'.
    executable: str = getattr(sys, "_base_executable", sys.executable)

    if executable != sys.executable:
        env["__PYVENV_LAUNCHER__"] = sys.executable

    reading, writing = os.pipe()
    handle = msvcrt.get_osfhandle(reading)
    os.set_handle_inheritable(handle, True)

    try:
        process = subprocess.Popen(
            [executable, *command(handle)], env=env, close_fds=False
        )
    except BaseException:
        os.close(writing)
        raise
    finally:
        os.close(reading)

    with open(writing, "wb") as file:
        for sock in sockets:
            file.write(base64.b64encode(sock.share(process.pid)) + b"\n")

    return process


def take_over(handle: int) -> list[int]:
    """The sockets that the supervisor has shared with this process."""
    reading = msvcrt.open_osfhandle(handle, os.O_RDONLY)

    with open(reading, "rb") as file:
        return [socket.fromshare(base64.b64decode(line)).detach() for line in file]
