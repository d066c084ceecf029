"""Where the system's limits are reached, ``flask wsrun`` says so and loses no edit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest

from ...process import Process, missing, port_of, program, until
from ..apps import get, until_answered, write_app, wsrun

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are Linux'")

QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


def while_asleep(server: Process, happen: t.Callable[[int], object]) -> None:
    """Have as many things happen while the command sleeps as its queue can hold.

    :param happen: is called with numbers. What happens to one file twice in a row is
        one event, else each is one of its own.
    """
    server.signal(signal.SIGSTOP)
    until(lambda: server.members()[server.pid] == "T", "the command to sleep")

    for number in range(int(QUEUE.read_text())):
        happen(number)


def test_edit_is_served_though_the_queue_of_events_is_full(tmp_path: Path) -> None:
    """What the kernel drops is found all the same, and directories that have come
    meanwhile are watched. It is told once, with what mends it.
    """
    app = write_app(tmp_path)
    files = [tmp_path / "one", tmp_path / "other", tmp_path / "old.py"]

    for file in files:
        file.touch()

    with wsrun(tmp_path) as server:
        port = port_of(server)
        server.wait_for("Reloading with watchdog")
        while_asleep(server, lambda number: os.utime(files[number % 2]))
        app.write_text(app.read_text().replace("version 1", "version 2"))
        (tmp_path / "old.py").unlink()
        (tmp_path / "new" / "deep").mkdir(parents=True)
        (tmp_path / "new" / "deep" / "module.py").write_text("a = 1\n")
        server.signal(signal.SIGCONT)
        server.wait_for(r"sudo sysctl fs\.inotify\.max_queued_events=\d+\n")
        server.wait_for(r"Detected change in 'app\.py' and 2 more")
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")
        (tmp_path / "new" / "deep" / "module.py").write_text("a = 2\n")
        server.wait_for("Detected change in 'new/deep/module.py'")
        server.wait_for("Reloaded in")
        while_asleep(server, lambda number: os.utime(files[number % 2]))
        app.write_text(app.read_text().replace("version 2", "version 3"))
        server.signal(signal.SIGCONT)
        server.wait_for(r"Detected change in 'app\.py'")
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 3")
        assert server.output.count("max_queued_events") == 1
        assert "overflowed" not in server.output  # watchdog's own words


def test_files_that_are_read_do_not_fill_the_queue(tmp_path: Path) -> None:
    """A search through all files, like the one after a loss, is no event."""
    app = write_app(tmp_path)
    other = tmp_path / "other.py"
    other.touch()

    with wsrun(tmp_path) as server:
        port = port_of(server)
        server.wait_for("Reloading with watchdog")
        while_asleep(server, lambda number: (app if number % 2 else other).read_bytes())
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.signal(signal.SIGCONT)
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")
        assert "sysctl" not in server.output


def limited(directory: Path, **limits: int) -> Process:
    """The server where few things can be watched.

    In a user namespace of its own a process may lower the limits that hold in there.
    """
    settings = "".join(
        f"echo {value} > /proc/sys/user/max_inotify_{name} && "
        for name, value in limits.items()
    )
    prefix = [program("unshare"), "-Ur", "sh", "-c", f'{settings} exec "$@"', "sh"]

    if subprocess.run([*prefix, "true"]).returncode != 0:
        missing("User namespaces are not allowed here.")

    flask = str(Path(sys.executable).parent / "flask")
    return Process(*prefix, flask, "--debug", "wsrun", "--port", "0", cwd=directory)


def processor_time(pid: int) -> float:
    """The seconds of processor time that a process has taken, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("limit", ["watches", "instances"])
def test_polls_where_too_little_can_be_watched(tmp_path: Path, limit: str) -> None:
    """Without watches left for all of some hundred files every edit is served, by a
    process that mostly sleeps.
    """
    app = write_app(tmp_path)

    for number in range(20):
        package = tmp_path / f"package{number}"
        package.mkdir()

        for name in range(20):
            (package / f"module{name}.py").write_text("a = 1\n")

    with limited(tmp_path, **{limit: 0 if limit == "instances" else 10}) as server:
        server.wait_for(rf"inotify {limit[:5]}\w* limit reached")
        server.wait_for(rf"sudo sysctl .*max_user_{limit}=\d+")
        port = port_of(server)
        server.wait_for("Reloading with polling")
        began = time.monotonic()
        used = processor_time(server.pid)

        for number in range(2, 5):
            write_app(tmp_path, str(number))
            server.wait_for(r"Detected change in 'app\.py'")
            server.wait_for("Reloaded in")
            assert get(port) == (200, f"version {number}")

        (tmp_path / "package7" / "module7.py").write_text("a = 22\n")
        server.wait_for("Detected change in 'package7/module7.py'")
        share = (processor_time(server.pid) - used) / (time.monotonic() - began)
        assert share < 0.5
        assert server.output.count("sysctl") == 1
        assert app.exists()


@pytest.mark.parametrize("shape", ["many", "deep"])
def test_new_directory_for_which_no_watch_is_left_is_polled(
    tmp_path: Path, shape: str
) -> None:
    """Directories may come when all watches have gone to others."""
    names = [f"new{n}" if shape == "many" else "new/" * n for n in range(1, 61)]
    last = tmp_path / names[-1] / "module.py"
    write_app(
        tmp_path,
        more=f"""
import pathlib
last = pathlib.Path({str(last)!r})
text = last.read_text() if last.exists() else "nothing"

@app.route("/last")
def show_last():
    return text
""",
    )

    with limited(tmp_path, watches=50) as server:
        port = port_of(server)
        server.wait_for("Reloading with watchdog")

        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "module.py").write_text("old")

        server.wait_for(r"sudo sysctl .*max_user_watches=\d+")

        for edit in ("new", "newer", "newest"):
            last.write_text(edit)
            until_answered(port, edit, "/last")

        assert server.output.count("sysctl") == 1
        assert "Traceback" not in server.output
        assert "has failed" not in server.output


def test_directory_that_is_moved_in_is_watched(tmp_path: Path) -> None:
    """An edit in it is served as well as its coming."""
    project = tmp_path / "project"
    project.mkdir()
    write_app(project)
    (tmp_path / "new" / "deep").mkdir(parents=True)
    (tmp_path / "new" / "deep" / "module.py").write_text("a = 1\n")

    with wsrun(project) as server:
        port_of(server)
        (tmp_path / "new").rename(project / "new")
        server.wait_for("Detected change in 'new/deep/module.py'")
        server.wait_for("Reloaded in")
        (project / "new" / "deep" / "module.py").write_text("a = 22\n")
        server.wait_for("Detected change in 'new/deep/module.py'")
