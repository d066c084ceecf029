"""What ``flask wsrun`` does when files change: real processes and real files."""

from __future__ import annotations

import functools
import os
import py_compile
import shutil
import signal
import socket
import sys
import threading
import time
from pathlib import Path

import pytest

import flask_sockets

from ...process import Process, port_of, until
from ..apps import UPGRADE, get, until_answered, write_app, wsrun

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="sends signals to process groups"
)


#: Servers that are forked, and those that are started as on Windows.
HOWEVER_IT_IS_STARTED = pytest.mark.parametrize("fork", ["--fork", "--no-fork"])


def test_edit_is_served(tmp_path: Path) -> None:
    """An edited module is named, loaded and served."""
    app = write_app(tmp_path)

    with wsrun(tmp_path) as server:
        port = port_of(server)
        app.write_text(app.read_text().replace("version 1", "version 22"))
        server.wait_for(r"^ \* Detected change in 'app\.py', reloading$")
        server.wait_for(r"^ \* Reloaded in \d+ ms$")
        assert get(port) == (200, "version 22")


def test_edit_of_equal_size_in_the_same_second_is_served(tmp_path: Path) -> None:
    """No .pyc stands for another source than the one that is there."""
    other = tmp_path / "other.py"

    def write_other(version: str) -> None:
        (tmp_path / "temporary").write_text(f"version = {version}\n")
        os.utime(tmp_path / "temporary", (1_700_000_000, 1_700_000_000))
        (tmp_path / "temporary").rename(other)

    write_other("0")
    # Another program has left one, as a test run or 'flask run' does.
    py_compile.compile(str(other))
    write_app(
        tmp_path,
        more="import other\n\n@app.route('/v')\ndef v():\n"
        "    return str(other.version)\n",
    )

    with wsrun(tmp_path) as server:
        port = port_of(server)

        for version in "12345":
            write_other(version)
            server.wait_for(r"Reloaded in")
            assert get(port, "/v") == (200, version)


@HOWEVER_IT_IS_STARTED
def test_syntax_error_is_shown_and_mended(tmp_path: Path, fork: str) -> None:
    """A mistake is shown in the terminal once and in the browser; mending it serves."""
    app = write_app(tmp_path)
    good = app.read_text()

    with wsrun(tmp_path, fork) as server:
        port = port_of(server)
        app.write_text("def broken(:\n")
        server.wait_for(r"could not be loaded \(SyntaxError\)")

        for _ in range(2):
            status, page = get(port)
            assert status == 500
            assert "SyntaxError" in page
            assert "Werkzeug" in page

        status, text = get(port, headers=UPGRADE)
        assert status == 503
        assert "SyntaxError" in text
        assert server.output.count("SyntaxError: invalid") == 1
        app.write_text(good.replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")


@pytest.mark.parametrize(
    ("mistake", "name"),
    [
        ("def broken(:\n", "SyntaxError"),
        ("import no_such_module\n", "ModuleNotFoundError"),
        ("raise LookupError('not there')\n", "LookupError"),
        ("import sys\nsys.exit('no configuration')\n", "SystemExit"),
    ],
)
def test_mistake_at_the_first_start_is_survived(
    tmp_path: Path, mistake: str, name: str
) -> None:
    """A server that starts with a mistake shows the true exception, and waits."""
    app = tmp_path / "app.py"
    app.write_text(mistake)

    with wsrun(tmp_path) as server:
        port = port_of(server)
        server.wait_for(rf"could not be loaded \({name}\)")
        assert server.output.count(f"{name}: ") == 1
        status, page = get(port)
        assert status == 500
        assert name in page
        write_app(tmp_path)
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 1")


def test_mistake_without_debugger_is_one_sentence(tmp_path: Path) -> None:
    """Without the debugger the browser gets the reason in plain text."""
    (tmp_path / "app.py").write_text("raise LookupError('not there')\n")

    with wsrun(tmp_path, "--no-debugger") as server:
        assert get(port_of(server)) == (
            500,
            "The app could not be loaded. LookupError: not there\n",
        )


def test_mistake_keeps_nobody_busy(tmp_path: Path) -> None:
    """An app that ends its process is loaded once and not over and over."""
    app = tmp_path / "app.py"
    app.write_text("import os\nos._exit(3)\n")

    with wsrun(tmp_path) as server:
        port = port_of(server)
        status, page = get(port)
        assert status == 500
        assert "ended by itself, with status 3" in page
        write_app(tmp_path)
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 1")
        assert server.output.count("with status 3") == 1
        assert app.exists()


def test_what_does_not_change_the_app_does_nothing(tmp_path: Path) -> None:
    """Touching, changed permissions, the same bytes, templates, editors' files: none
    of them reloads, as the next true edit shows.
    """
    app = write_app(tmp_path)
    (tmp_path / "templates").mkdir()
    template = tmp_path / "templates" / "page.html"
    template.write_text("old")

    with wsrun(tmp_path, "--exclude-patterns", "ignored") as server:
        port_of(server)
        app.touch()
        app.chmod(0o600)
        app.write_text(app.read_text())
        template.write_text("new")
        (tmp_path / ".#app.py").write_text("lock")
        (tmp_path / "app.py~").write_text("backup")
        (tmp_path / "4913").touch()
        (tmp_path / "__pycache__").mkdir(exist_ok=True)
        (tmp_path / "__pycache__" / "some.py").touch()
        (tmp_path / "ignored").mkdir()
        (tmp_path / "ignored" / "some.py").write_text("a = 1\n")
        (tmp_path / "env").mkdir()
        (tmp_path / "env" / "pyvenv.cfg").touch()
        (tmp_path / "env" / "some.py").write_text("a = 1\n")
        (tmp_path / "late.py").write_text("a = 1\n")
        server.wait_for("Detected change in 'late.py', reloading")
        server.wait_for("Reloaded in")
        assert server.output.count("Detected change") == 1


def test_editable_install_below_a_pruned_directory_is_watched(tmp_path: Path) -> None:
    """Where 'pip install -e git+...' puts it, in the environment of the project."""
    library = tmp_path / ".venv" / "src" / "library"
    library.mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    module = library / "module.py"
    module.write_text("version = 'old'\n")
    write_app(
        tmp_path,
        more="import module\n\n@app.route('/v')\ndef v():\n    return module.version\n",
    )

    with wsrun(tmp_path, env={"PYTHONPATH": str(library)}) as server:
        port = port_of(server)
        assert get(port, "/v") == (200, "old")
        module.write_text("version = 'new'\n")
        server.wait_for("Reloaded in")
        assert get(port, "/v") == (200, "new")


@pytest.mark.parametrize("how", ["rename", "move in", "package", "delete", "old"])
def test_every_way_to_change_a_file_reloads(tmp_path: Path, how: str) -> None:
    """Saving by renaming, new and moved and deleted files, and old times all count."""
    project = tmp_path / "project"
    project.mkdir()
    app = write_app(project)
    module = project / "module.py"
    module.write_text("a = 1\n")
    outside = tmp_path / "outside"
    outside.mkdir()

    with wsrun(project) as server:
        port_of(server)

        if how == "rename":
            (project / "temporary").write_text(app.read_text() + "# more\n")
            (project / "temporary").rename(app)
            server.wait_for(r"Detected change in 'app\.py'")
        elif how == "move in":
            (outside / "new").mkdir()
            (outside / "new" / "__init__.py").write_text("a = 1\n")
            (outside / "new").rename(project / "new")
            server.wait_for(r"Detected change in 'new/__init__\.py'")
        elif how == "package":
            (project / "new" / "deep").mkdir(parents=True)
            (project / "new" / "deep" / "some.py").write_text("a = 1\n")
            server.wait_for(r"Detected change in 'new/deep/some\.py'")
            server.wait_for("Reloaded in")
            (project / "new" / "deep" / "some.py").write_text("a = 2\n")
            server.wait_for(r"Detected change in 'new/deep/some\.py'")
        elif how == "delete":
            module.unlink()
            server.wait_for(r"Detected change in 'module\.py'")
        else:
            module.write_text("a = 2\n")
            os.utime(module, (1_500_000_000, 1_500_000_000))
            server.wait_for(r"Detected change in 'module\.py'")

        server.wait_for("Reloaded in")


def test_modules_from_elsewhere_are_watched(tmp_path: Path) -> None:
    """A module that is imported from outside of the app's directory counts, also when
    the import comes late or fails.
    """
    project = tmp_path / "project"
    library = tmp_path / "library"
    project.mkdir()
    (library / "tools").mkdir(parents=True)
    (library / "tools" / "__init__.py").touch()
    (library / "tools" / "late.py").write_text("value = 'old'\n")
    broken = library / "broken.py"
    broken.write_text("def broken(:\n")
    write_app(
        project,
        more="import broken\n\n@app.route('/late')\ndef late():\n"
        "    from tools import late\n    return late.value\n",
    )

    with wsrun(project, env={"PYTHONPATH": str(library)}) as server:
        port = port_of(server)
        broken.write_text("mended = True\n")
        server.wait_for(r"Detected change in '\.\./library/broken\.py'")
        server.wait_for("Reloaded in")
        assert get(port, "/late") == (200, "old")
        (library / "tools" / "late.py").write_text("value = 'new'\n")
        server.wait_for(r"Detected change in '\.\./library/tools/late\.py'")
        server.wait_for("Reloaded in")
        assert get(port, "/late") == (200, "new")


def test_extra_files_reload(tmp_path: Path) -> None:
    """Extra files count whatever they hold, and whether they exist yet or not."""
    write_app(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "conf" / "app.toml").write_text("a = 1")
    extra = os.pathsep.join(["conf", "data/*.json", "later.ini"])

    with wsrun(tmp_path, "--extra-files", extra) as server:
        port_of(server)

        for name in ("conf/app.toml", "data/new.json", "later.ini"):
            (tmp_path / name).write_text("something new")
            server.wait_for(rf"Detected change in '{name}'")
            server.wait_for("Reloaded in")


def test_burst_of_edits_is_one_reload(tmp_path: Path) -> None:
    """Sixteen files at once, as a checkout writes them, reload once or twice."""
    app = write_app(tmp_path)

    for number in range(16):
        (tmp_path / f"module{number}.py").write_text("a = 1\n")

    with wsrun(tmp_path) as server:
        port = port_of(server)

        for number in range(16):
            (tmp_path / f"module{number}.py").write_text("a = 2\n")

        server.wait_for("Reloaded in")
        app.write_text(app.read_text().replace("version 1", "version 2"))
        until(lambda: get(port) == (200, "version 2"), "the last edit")
        assert server.output.count("Detected change") <= 3


@HOWEVER_IT_IS_STARTED
def test_edits_during_a_reload_are_not_lost(tmp_path: Path, fork: str) -> None:
    """However soon an edit follows another, the last one is served in the end."""
    app = write_app(tmp_path, "0", more="import time\ntime.sleep(0.1)\n")
    text = app.read_text()

    with wsrun(tmp_path, fork) as server:
        port = port_of(server)

        for number in range(1, 25):
            app.write_text(text.replace("version 0", f"version {number}"))
            time.sleep(0.013 * (number % 13))

        until(lambda: get(port) == (200, "version 24"), "the last edit")


def test_second_edit_is_never_lost(tmp_path: Path) -> None:
    """Whatever the gap after the first, from 50 to 850 ms."""
    app = write_app(tmp_path, "0")
    text = app.read_text()

    with wsrun(tmp_path) as server:
        port = port_of(server)

        for gap in range(50, 851, 50):
            app.write_text(text.replace("version 0", f"version {gap} first"))
            time.sleep(gap / 1000)
            app.write_text(text.replace("version 0", f"version {gap} second"))
            until_answered(port, f"version {gap} second")


@HOWEVER_IT_IS_STARTED
def test_no_connection_is_refused_or_cut_across_reloads(
    tmp_path: Path, fork: str
) -> None:
    """Requests that come while the server reloads are all answered."""
    app = write_app(tmp_path, "0")
    text = app.read_text()
    failures: list[Exception] = []
    answers: set[str] = set()
    done = threading.Event()

    def hammer() -> None:
        while not done.is_set():
            try:
                answers.add(get(port)[1])
            except Exception as error:
                failures.append(error)

    with wsrun(tmp_path, fork) as server:
        port = port_of(server)
        threads = [threading.Thread(target=hammer) for _ in range(4)]

        for thread in threads:
            thread.start()

        for number in range(1, 11 if fork == "--fork" else 4):
            app.write_text(text.replace("version 0", f"version {number}"))
            server.wait_for("Reloaded in")
            until(functools.partial(answers.__contains__, f"version {number}"), "it")

        done.set()

        for thread in threads:
            thread.join(30)

    assert failures == []


@pytest.mark.skipif(
    not hasattr(socket, "TCP_DEFER_ACCEPT"), reason="the system can't defer accepting"
)
def test_connection_without_a_request_is_left_to_the_next_server(
    tmp_path: Path,
) -> None:
    """A client that connects before a reload may send its request after it."""
    app = write_app(tmp_path)

    with wsrun(tmp_path) as server:
        port = port_of(server)

        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            # Connections are accepted in turn.
            assert get(port) == (200, "version 1")
            app.write_text(app.read_text().replace("version 1", "version 2"))
            server.wait_for("Reloaded in")
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200 ")


@HOWEVER_IT_IS_STARTED
def test_request_under_way_is_finished(tmp_path: Path, fork: str) -> None:
    """A reload lets a request that has begun end, within the grace period."""
    app = write_app(
        tmp_path,
        more="""
import time

@app.route("/slow")
def slow():
    print("slow has begun", flush=True)
    time.sleep(0.5)
    return "slow"
""",
    )

    with wsrun(tmp_path, fork, "--grace", "20") as server:
        port = port_of(server)
        answers = []
        waiting = threading.Thread(target=lambda: answers.append(get(port, "/slow")))
        waiting.start()
        server.wait_for("slow has begun")
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        waiting.join(30)
        assert answers == [(200, "slow")]


def test_stuck_handler_does_not_hold_up_a_reload(tmp_path: Path) -> None:
    """A view that never yields is cut when the grace period is over."""
    app = write_app(
        tmp_path,
        more="""
@app.route("/stuck")
def stuck():
    print("stuck has begun", flush=True)
    while True:
        pass
""",
    )

    with wsrun(tmp_path, "--grace", "0.1") as server:
        port = port_of(server)

        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
            server.wait_for("stuck has begun")
            app.write_text(app.read_text().replace("version 1", "version 2"))
            server.wait_for("Reloaded in")

        assert get(port) == (200, "version 2")


def test_dotenv_files_are_read_again(tmp_path: Path) -> None:
    """Edited files of variables count with their new values, .env and that of
    '--env-file'; the shell's values stay above them.
    """
    pytest.importorskip("dotenv")
    project = tmp_path / "project"
    project.mkdir()
    write_app(
        project,
        more="""
import os

@app.route("/env")
def env():
    return " ".join(os.environ[f"FROM_{name}"] for name in ("FILE", "OPTION", "SHELL"))
""",
    )
    dotenv = project / ".env"
    dotenv.write_text("FROM_FILE=old\nFROM_SHELL=file\n")
    other = tmp_path / "variables"
    other.write_text("FROM_OPTION=old\nFROM_SHELL=option\n")
    options = ("--env-file", "../variables", "--debug")

    with Process(
        *("flask", *options, "wsrun", "--port", "0"),
        cwd=project,
        env={"FROM_SHELL": "shell"},
    ) as server:
        port = port_of(server)
        assert get(port, "/env") == (200, "old old shell")
        dotenv.write_text("FROM_FILE=new\nFROM_SHELL=file\n")
        server.wait_for(r"Detected change in '\.env'")
        server.wait_for("Reloaded in")
        assert get(port, "/env") == (200, "new old shell")
        other.write_text("FROM_OPTION=newer\nFROM_SHELL=option\n")
        server.wait_for(r"Detected change in '\.\./variables'")
        server.wait_for("Reloaded in")
        assert get(port, "/env") == (200, "new newer shell")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_serves_where_processes_cannot_be_forked(
    tmp_path: Path, number: signal.Signals
) -> None:
    """A fresh interpreter for each load does all the same, only slower."""
    app = write_app(tmp_path)
    with wsrun(tmp_path, "--no-fork", "--preload", "decimal") as server:
        server.wait_for(r"Modules can't be kept imported here \('--preload'\)")
        port = port_of(server)
        assert get(port) == (200, "version 1")

        for version in (2, 3):
            old = f"version {version - 1}"
            app.write_text(app.read_text().replace(old, f"version {version}"))
            server.wait_for("Reloaded in")
            assert get(port) == (200, f"version {version}")

        app.write_text("import os\nos._exit(3)\n")
        server.wait_for("could not be loaded")
        assert get(port)[0] == 500
        write_app(tmp_path)
        server.wait_for("Reloaded in")
        assert len(server.members()) == 2

        if number == signal.SIGKILL:
            server.signal(number)
            assert server.wait() == -number
        else:
            server.signal_group(number)
            assert server.wait() == 0

        until(lambda: not server.members(), "the processes to end")


def test_edit_before_a_directory_is_watched_is_not_lost(tmp_path: Path) -> None:
    """What is edited between its import and the watching is loaded again."""
    project = tmp_path / "project"
    library = tmp_path / "library"
    project.mkdir()
    library.mkdir()
    module = library / "module.py"
    module.write_text("version = 'old'\n")
    write_app(
        project,
        more="import module, pathlib\n\n@app.route('/v')\ndef v():\n"
        "    return module.version\n\n"
        "# Nobody watches it until this app is loaded.\n"
        "pathlib.Path(module.__file__).write_text(\"version = 'new'\\n\")\n",
    )

    with wsrun(project, env={"PYTHONPATH": str(library)}) as server:
        # What is outdated when it has been loaded is never served.
        server.wait_for(r"Detected change in '\.\./library/module\.py'")
        assert get(port_of(server), "/v") == (200, "new")


def test_change_of_what_is_kept_warm_is_served(tmp_path: Path) -> None:
    """A module that the warm process has imported itself is imported anew."""
    library = tmp_path / "library"
    # As a checkout of a library that somebody works on.
    shutil.copytree(Path(flask_sockets.__file__).parent, library / "flask_sockets")
    module = library / "flask_sockets" / "exceptions.py"
    project = tmp_path / "project"
    project.mkdir()
    write_app(
        project,
        more="from flask_sockets import exceptions\n\n@app.route('/v')\ndef v():\n"
        "    return getattr(exceptions, 'version', 'old')\n",
    )

    with wsrun(project, env={"PYTHONPATH": str(library)}) as server:
        port = port_of(server)
        assert get(port, "/v") == (200, "old")

        for version in ("new", "newer"):
            module.write_text(f"{module.read_text()}\nversion = {version!r}\n")
            server.wait_for(r"Detected change in '.*exceptions\.py'")
            server.wait_for("Reloaded in")
            assert get(port, "/v") == (200, version)


def test_secrets_are_not_in_the_list_of_processes(tmp_path: Path) -> None:
    """Other users can read the command lines of all processes, but no value of .env."""
    pytest.importorskip("dotenv")
    write_app(tmp_path)
    (tmp_path / ".env").write_text("SECRET_KEY=very-secret\n")

    with wsrun(tmp_path) as server:
        port_of(server)

        for pid in server.members():
            assert b"very-secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()
