"""The debuggers of IDEs, which attach to the command and follow what it starts."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import pytest

from ...process import PATIENCE, Process, free_port, port_of
from ..apps import get, write_app
from ..dap import Debugger

pytest.importorskip("debugpy")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="reads the group")

VIEW = """
import os

@app.route("/stop")
def stop():
    here = str(os.getpid())
    return here
"""


@pytest.mark.timeout(300)
def test_breakpoint_is_hit_also_after_a_reload(tmp_path: Path) -> None:
    """As in VS Code, which attaches to each process that the command starts."""
    app = write_app(tmp_path, more=VIEW)
    line = app.read_text().splitlines().index("    return here") + 1
    listen = free_port()
    arguments = (
        *("-m", "debugpy", "--listen", f"127.0.0.1:{listen}", "--wait-for-client"),
        *("-m", "flask", "--debug", "wsrun", "--port", "0"),
    )
    environment = {"PYDEVD_DISABLE_FILE_VALIDATION": "1"}

    with contextlib.ExitStack() as stack:
        process = stack.enter_context(
            Process(
                *(sys.executable, *arguments),
                cwd=tmp_path,
                env=environment,
                # A debugger in each process takes its time on a busy machine.
                patience=3 * PATIENCE,
            )
        )
        debugger = Debugger(listen, app, line)
        stack.callback(debugger.close)
        port = port_of(process)
        process.wait_for("Debugger PIN")
        first = get(port, "/stop")[1]
        debugger.wait_for_hits(1)
        app.write_text(app.read_text().replace("version 1", "version 2"))
        process.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")
        second = get(port, "/stop")[1]
        debugger.wait_for_hits(2)
        assert debugger.hits == [first, second]
