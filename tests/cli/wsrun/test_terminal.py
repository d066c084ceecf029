"""The terminal, and where there is none."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
import threading
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
        [FLASK, "--debug", "wsrun", "--no-keys", "--port", str(port)],
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


needs_no_directory = pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0),
    reason="Without a working directory, CPython 3.13.0 itself raises a SystemError for"
    " any attribute that a module doesn't have.",
)


@needs_no_directory
def test_working_directory_may_go(tmp_path: Path) -> None:
    """An app that is elsewhere is reloaded all the same."""
    app = write_app(tmp_path)
    here = tmp_path / "here"
    here.mkdir()
    (here / ".env").write_text("NAME=value\n")

    with wsrun(here, env={"FLASK_APP": str(app)}) as server:
        port = port_of(server)
        shutil.rmtree(here)
        app.write_text(app.read_text().replace("version 1", "version 2"))
        until_answered(port, "version 2")
        assert "Traceback" not in server.output


@needs_no_directory
def test_app_that_is_gone_with_the_working_directory_is_told_of(tmp_path: Path) -> None:
    """There is no way back: a new directory of that name is another one."""
    here = tmp_path / "here"
    here.mkdir()
    write_app(here)

    with wsrun(here) as server:
        port_of(server)
        shutil.rmtree(here)
        server.wait_for(r"^Error: The directory .* has been deleted\. Start it again")
        server.wait_for(r"could not be loaded")
        assert "Traceback" not in server.output


@needs_no_directory
def test_without_a_directory_nothing_is_started(tmp_path: Path) -> None:
    """Where there are no '.env' files to look for, which Flask itself does before."""
    here = tmp_path / "here"
    here.mkdir()
    command = ("/bin/sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", FLASK, "wsrun")

    with Process(*command, cwd=here, env={"FLASK_SKIP_DOTENV": "1"}) as process:
        process.wait_for(r"Error: The current directory has been deleted\. Change")
        assert process.wait() == 2
        assert "Traceback" not in process.output


ASKING = """
import sys

@app.route("/pdb")
def ask_by_pdb():
    breakpoint()
    return "went on"


@app.route("/line")
def ask_for_a_line():
    print("A line, please", flush=True)
    return sys.stdin.readline()
"""


def at_keyboard(directory: Path, *options: str, **env: str) -> Process:
    """The server in a terminal of its own."""
    command = ("flask", "--debug", "wsrun", "--port", "0", *options)
    return Process(*command, cwd=directory, keyboard=True, env={"NO_COLOR": "1", **env})


def wait_for_keys(server: Process) -> None:
    """Wait until keys reach the command."""
    until(lambda: not server.has_echo(), "the command to read keys")


def test_keys_restart_open_and_quit(tmp_path: Path) -> None:
    """The banner names the key that lists the others, and the terminal is as before
    when the command has ended.
    """
    write_app(tmp_path)
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\necho "opened $1"\n')
    browser.chmod(0o700)

    with at_keyboard(tmp_path, BROWSER=f"{browser} %s") as server:
        port = port_of(server)
        server.wait_for(r"^Press CTRL\+C to quit, \? for other keys$")
        wait_for_keys(server)
        server.type("?")
        server.wait_for(r"^ \* Keys: r restarts the app, o opens it")
        server.type("xo")
        server.wait_for(rf"^opened http://127\.0\.0\.1:{port}$")
        before = set(server.members())
        server.type("r")
        server.wait_for(r"^ \* Restarting$")
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 1")
        # All of it was started anew, and what leaves takes no keys with it.
        until(lambda: before & {*server.members()} == {server.pid}, "the others to end")
        wait_for_keys(server)
        server.type("?")
        server.wait_for(r"^ \* Keys: ")
        server.type("q")
        assert server.wait() == 0


def test_answers_at_a_prompt_are_no_keys(tmp_path: Path) -> None:
    """Those to pdb, and to whoever else reads a line; after that there are keys."""
    write_app(tmp_path, more=ASKING)
    answers = []

    with at_keyboard(tmp_path) as server:
        port = port_of(server)

        for path in ("/pdb", "/line"):
            wait_for_keys(server)
            request = threading.Thread(
                target=lambda p=path: answers.append(get(port, p))
            )
            request.start()

            if path == "/pdb":
                server.wait_for(r"\(Pdb\) ")
                server.type("'q' + str(6 * 7)\n")
                server.wait_for("'q42'")
                server.type("c\n")
            else:
                server.wait_for("A line, please")
                until(server.has_echo, "the question")
                server.type("rq?\n")

            request.join(PATIENCE)

        assert answers == [(200, "went on"), (200, "rq?\n")]
        wait_for_keys(server)
        server.type("?")
        server.wait_for(r"^ \* Keys: r restarts the app")
        assert server.output.count("* Keys:") == 1
        assert "Restarting" not in server.output


def test_terminal_has_an_echo_when_the_command_was_killed(tmp_path: Path) -> None:
    """What it leaves behind gives it back."""
    write_app(tmp_path)

    with at_keyboard(tmp_path) as server:
        port_of(server)
        wait_for_keys(server)
        server.signal(signal.SIGKILL)
        until(server.has_echo, "the echo")


def test_keys_can_be_turned_off(tmp_path: Path) -> None:
    """The terminal is left alone then, and the banner speaks of no keys."""
    write_app(tmp_path)

    with at_keyboard(tmp_path, "--no-keys") as server:
        server.wait_for(r"^Press CTRL\+C to quit$")
        server.wait_for("Debugger PIN")
        assert server.has_echo()
