"""Which imports are nothing for a process that is forked, and for an app that is not to
see a difference.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from gevent import _hub_local

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells what an import has started"
)

#: What libraries do as they are imported, and what is said of them. Nothing is said of
#: what can be kept.
LIBRARIES = {
    "computes": ("value = sum(range(1000))", None),
    "connects": ("import socket\nsocket.socket().close()", None),
    "logs": ("import logging\nlogging.getLogger(__name__).setLevel(10)", None),
    "warns": ("import warnings\nwarnings.warn('old', stacklevel=1)", None),
    "has_threads": (
        "from gevent import monkey\n"
        "start = monkey.get_original('_thread', 'start_new_thread')\n"
        "start(monkey.get_original('time', 'sleep'), (60,))",
        "starts threads",
    ),
    "has_greenlets": (
        "import threading\nthreading.Thread(target=int, daemon=True).start()",
        "makes greenlets",
    ),
    "has_processes": (
        "import os\nos.posix_spawnp('sleep', ['sleep', '1'], os.environ)",
        "starts processes",
    ),
    "opens": ("file = open(__file__)", "opens files"),
    "prints": ("print('hello')", "writes to the terminal"),
    "fails": ("raise ImportError", "raises ImportError"),
    "exits": ("raise SystemExit", "raises SystemExit"),
    "catches_signals": (
        "import signal\nsignal.signal(signal.SIGUSR1, lambda *args: None)",
        "changes the handlers of signals",
    ),
    "speaks": (
        "import locale\nlocale.setlocale(locale.LC_ALL, 'C')\n"
        "locale.setlocale(locale.LC_CTYPE, 'POSIX')",
        "changes the locale",
    ),
    "moves": ("import os\nos.chdir('/')", "changes the current directory"),
    "finds": ("import sys\nsys.path.append('/nowhere')", "changes the path of modules"),
    "handles_logs": (
        "import logging\nlogging.getLogger().addHandler(logging.NullHandler())",
        "changes the log",
    ),
    "counts": ("import sys\nsys.setrecursionlimit(5000)", "changes limits of the"),
    "hooks": ("import sys\nsys.excepthook = print", "changes hooks of the interpreter"),
    "blames": (
        "import warnings\nwarnings.warn('you', stacklevel=2)",
        "warns of the code that imports it",
    ),
}

#: Imports each library in a process of its own, which is forked as servers are.
LEARNING = """
import json, os, sys
from flask_sockets_cli.warm.main import warm_up

warm_up()
import gevent
from flask_sockets_cli.import_steps import Step
from flask_sockets_cli.warm._gevent import fork, waitpid
from flask_sockets_cli.warm.repeating import LeftOut, repeat

for name in json.loads(sys.argv[1]):
    pid = fork()

    if pid == 0:
        reason = None
        step = Step(name, [name], 1.0, [*sys.path], {})

        try:
            repeat([step], [], lambda name: None)
        except LeftOut as error:
            reason = error.reason

        os.write(1, json.dumps([name, reason]).encode() + b"\\n")
        os._exit(0)

    waitpid(pid, 0)
"""


def test_what_is_not_safe_is_found_out(tmp_path: Path) -> None:
    """What an import starts, opens or changes is told of, and what is harmless is kept:
    all these libraries are imported in one process each.
    """
    libraries = tmp_path / "site-packages"
    libraries.mkdir()

    for name, (source, _) in LIBRARIES.items():
        (libraries / f"{name}.py").write_text(source + "\n")

    code = f"import sys; sys.path.append({str(libraries)!r}){LEARNING}"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([*LIBRARIES])],
        capture_output=True,
        text=True,
    )
    found = dict(map(json.loads, done.stdout.splitlines()))
    assert found.keys() == LIBRARIES.keys(), done.stderr

    for name, (_, expected) in LIBRARIES.items():
        reason = found[name]
        assert (reason or "kept").startswith(expected or "kept"), (name, reason)


def test_private_parts_are_there() -> None:
    """Without them nothing could be learned."""
    assert hasattr(_hub_local, "get_hub_if_exists"), (
        "gevent has no 'get_hub_if_exists' any more. Find out what tells whether there"
        " is a hub without making one, and use that in 'warm/_gevent.py'."
    )
    assert hasattr(logging.root.manager, "loggerClass"), (
        "Managers of loggers have no 'loggerClass' any more. Find out what they make"
        " loggers with, and use that in 'serve/effects.py'."
    )
