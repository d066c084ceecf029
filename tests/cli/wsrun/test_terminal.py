"""The terminal, and where there is none."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from ...process import PATIENCE, Process, free_port, port_of, until
from ..apps import get, until_answered, write_app, wsrun

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a terminal")

FLASK = str(Path(sys.executable).parent / "flask")

PROMPT = """
import termios

@app.route("/prompt")
def prompt():
    settings = termios.tcgetattr(0)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(0, termios.TCSANOW, settings)
    return "no echo"
"""


@pytest.mark.parametrize("how", ["reload", "stop"])
def test_terminal_is_as_before_after_a_server_that_has_changed_it(
    tmp_path: Path, how: str
) -> None:
    """As pdb does, which is ended at its prompt by an edit, or by Ctrl-C."""
    app = write_app(tmp_path, more=PROMPT)
    port = free_port()
    ours, theirs = pty.openpty()

    def has_echo() -> bool:
        return bool(termios.tcgetattr(theirs)[3] & termios.ECHO)

    process = subprocess.Popen(
        [FLASK, "--debug", "wsrun", "--port", str(port)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A session with this terminal, in the foreground.
        preexec_fn=lambda: os.login_tty(theirs),
    )

    try:
        until(lambda: _answers(port), "the server")
        assert has_echo()
        assert get(port, "/prompt") == (200, "no echo")
        assert not has_echo()

        if how == "reload":
            app.write_text(app.read_text().replace("version 1", "version 2"))
            until_answered(port, "version 2")
        else:
            process.terminate()
            process.wait(PATIENCE)

        until(has_echo, "the echo")
    finally:
        process.kill()
        process.wait()
        os.close(ours)
        os.close(theirs)


def _answers(port: int) -> bool:
    try:
        return get(port)[0] == 200
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_done_without(tmp_path: Path, closed: str) -> None:
    """Nobody reads what there is to say, and all is served."""
    app = write_app(tmp_path)
    port = free_port()
    command = f'exec "$@" {closed}'
    arguments = (FLASK, "--debug", "wsrun", "--port", str(port))

    with Process("/bin/sh", "-c", command, "sh", *arguments, cwd=tmp_path) as process:
        until(lambda: _answers(port), "the server")
        app.write_text(app.read_text().replace("version 1", "version 2"))
        until_answered(port, "version 2")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert process.output == ""


@pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0),
    reason="Without a working directory, CPython 3.13.0 itself raises a SystemError for"
    " any attribute that a module doesn't have.",
)
def test_working_directory_may_go(tmp_path: Path) -> None:
    """An app that is elsewhere is reloaded all the same."""
    app = write_app(tmp_path)
    here = tmp_path / "here"
    here.mkdir()

    with wsrun(here, env={"FLASK_APP": str(app)}) as server:
        port = port_of(server)
        shutil.rmtree(here)
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for(r"Detected change in '.*app\.py', reloading")
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")
        assert "Traceback" not in server.output
