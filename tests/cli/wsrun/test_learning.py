"""What the server learns to keep imported: the app sees nothing of it, and nothing that
has changed is missed.
"""

from __future__ import annotations

import json
import sys
import typing as t
from pathlib import Path

import pytest

from ...process import Process, port_of, until
from ..apps import get, until_answered, wsrun

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="learns on Linux only")

#: A library that takes its time, and does what libraries do as they are imported.
LIBRARY = """\
import atexit, decimal, logging, os, pathlib, random, sys, time, warnings

with open(pathlib.Path(__file__).with_name("imports"), "a") as file:
    file.write("imported\\n")

until = time.process_time() + 0.2
while time.process_time() < until:
    pass

version = "library 1"
setting = os.environ.get("BUSY_SETTING")
generator = random.Random()
logger = logging.getLogger("busy_library")
logger.addHandler(logging.NullHandler())
os.environ["BUSY_LIBRARY"] = "imported"
warnings.filterwarnings("ignore", message="what is ignored")
warnings.simplefilter("always", ResourceWarning, append=True)
warnings.warn("busy is old", FutureWarning, stacklevel=1)

class Finder:
    def find_spec(self, *args):
        return None

sys.meta_path.append(Finder())
atexit.register(print, "farewell of the library", flush=True)
"""

APP = """\
import atexit, json, locale, logging, os, random, signal, sys, warnings
import logging.config
from flask import Flask

app = Flask(__name__)
os.environ["BUSY_SETTING"] = "setting 1"
atexit.register(print, "farewell of the app", flush=True)
logging.config.dictConfig({"version": 1})
warnings.filterwarnings("ignore", message="what the app ignores")

def state():
    library = sys.modules.get("busy_library")
    return {
        "modules": [n for n in sys.modules if not n.startswith("flask_sockets_cli")],
        "library": sorted(vars(library)) if library else None,
        "environ": dict(os.environ),
        "filters": [str(each) for each in warnings.filters],
        "finders": [type(each).__name__ for each in sys.meta_path],
        "path": sys.path,
        "loggers": {
            name: [str(getattr(logger, "parent", "")), getattr(logger, "disabled", "")]
            for name, logger in logging.root.manager.loggerDict.items()
        },
        "signals": [
            getattr(signal.getsignal(n), "__qualname__", str(signal.getsignal(n)))
            for n in signal.valid_signals()
        ],
        "locale": locale.setlocale(locale.LC_ALL),
    }

states = [state()]
import busy_library
states.append(state())
import busy_library.part
states.append(state())

@app.route("/")
def index():
    return f"version 1 {busy_library.version} {busy_library.setting}"

@app.route("/state")
def show_state():
    return json.dumps([*states, state()])

@app.route("/random")
def show_random():
    return json.dumps([random.random(), busy_library.generator.random()])
"""


class Project:
    """A directory with an app, and one with the library it imports."""

    def __init__(self, directory: Path) -> None:
        self.app = directory / "project" / "app.py"
        self.package = directory / "site-packages" / "busy_library"
        self.library = self.package / "__init__.py"
        self.app.parent.mkdir()
        self.package.mkdir(parents=True)
        self.app.write_text(APP)
        self.library.write_text(LIBRARY)
        (self.package / "part.py").write_text("")
        self._env = {
            "PYTHONPATH": str(directory / "site-packages"),
            "XDG_CACHE_HOME": str(directory / "cache"),
        }

    def run(self, *options: str) -> Process:
        return wsrun(self.app.parent, *options, env=self._env)

    def imports(self) -> int:
        """How often the library has been imported, by whatever process."""
        return len((self.package / "imports").read_text().splitlines())

    def edit(self, old: str, new: str, path: Path | None = None) -> None:
        path = path or self.app
        source = path.read_text()
        assert old in source
        path.write_text(source.replace(old, new))

    def remembered(self) -> list[Path]:
        cache = Path(self._env["XDG_CACHE_HOME"])
        return list((cache / "flask-sockets" / "learned").iterdir())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def observe(project: Project, *options: str) -> dict[str, t.Any]:
    """What can be seen of three loads of the app."""
    seen: dict[str, t.Any] = {"states": [], "random": []}

    with project.run(*options) as server:
        port = port_of(server)

        if not options:
            server.wait_for(r"Keeping imported for the next reloads: busy_library\.")

        imports = project.imports()

        for number in (1, 2, 3):
            if number > 1:
                project.edit(f"version {number - 1}", f"version {number}")
                server.wait_for("Reloaded in")
                assert get(port)[1] == f"version {number} library 1 setting 1"

            seen["states"].append(json.loads(get(port, "/state")[1]))
            seen["random"] += json.loads(get(port, "/random")[1])

        seen["imports"] = project.imports() - imports

    seen["warnings"] = server.output.count("FutureWarning: busy is old")
    seen["farewells"] = [
        line for line in server.output.splitlines() if line.startswith("farewell")
    ]
    project.edit("version 3", "version 1")
    return seen


def test_the_app_sees_no_difference(project: Project) -> None:
    """At each import of each load the app finds the modules, environment variables,
    filters, loggers and finders that it would find otherwise. Warnings are given, and
    what is registered for the end is called, as often and in the same order. Only the
    import is not done again.
    """
    usual = observe(project, "--no-learn")
    learned = observe(project)
    assert usual["imports"] == 2
    assert learned["imports"] == 0

    for before, after in zip(usual["states"][2], learned["states"][2], strict=True):
        for name, value in before.items():
            assert after[name] == value, name

    assert learned["states"][1] == learned["states"][2]
    assert learned["warnings"] == usual["warnings"] == 3
    assert learned["farewells"] == usual["farewells"]
    # Nothing is as random twice, also where the library has made the generator.
    assert len({*learned["random"], *usual["random"]}) == 12
    # The app has set a variable before the import: it may be a secret.
    assert all("setting 1" not in file.read_text() for file in project.remembered())


def test_what_has_changed_is_imported_anew(project: Project) -> None:
    """A variable that the app sets before the import, one of '.env', the library on the
    disk, and the imports themselves: each edit is served.
    """
    (project.app.parent / ".env").write_text("UNUSED=1\n")

    with project.run() as server:
        port = port_of(server)
        server.wait_for("Keeping imported")

        def check(text: str) -> None:
            """See that the text is served, and wait until that has been learned."""
            imports = project.imports()
            until_answered(port, f"version 1 {text}")
            until(lambda: project.imports() > imports, "another import")

        project.edit("setting 1", "setting 2")
        check("library 1 setting 2")
        (project.app.parent / ".env").write_text("BUSY_SETTING=setting 3\n")
        project.edit('os.environ["BUSY_SETTING"] = "setting 2"\n', "")
        check("library 1 setting 3")
        project.edit("library 1", "library 2", project.library)
        project.edit("def index", "def  index")
        check("library 2 setting 3")
        project.edit(
            "import busy_library\n", "import busy_library.part, busy_library\n"
        )
        check("library 2 setting 3")
        project.edit("import busy_library.part, busy_library\n", "busy_library = app\n")
        project.edit("import busy_library.part\n", "app.version = app.setting = 'no'\n")
        until_answered(port, "version 1 no no")
        assert "Traceback" not in server.output


def test_what_was_learned_is_remembered(project: Project) -> None:
    """The next run imports the library once, and its first reload needs no import. What
    can't be read does no harm, and is learned again.
    """
    project.edit('os.environ["BUSY_SETTING"] = "setting 1"\n', "")

    # Once for the first load, and once more to keep it, unless that is the same.
    for number, imports in ((1, 2), (2, 3), (3, 5)):
        with project.run() as server:
            port = port_of(server)
            server.wait_for("Keeping imported")
            project.edit(f"version {number}", f"version {number + 1}")
            server.wait_for("Reloaded in")
            assert get(port)[1] == f"version {number + 1} library 1 None"
            assert project.imports() == imports

        if number == 2:
            (file,) = project.remembered()
            file.write_bytes(file.read_bytes()[:100])


def test_edits_do_not_keep_the_server_from_learning(project: Project) -> None:
    """Each comes before the library could be imported once more."""
    project.edit("process_time() + 0.2", "process_time() + 1", project.library)

    with project.run() as server:
        port = port_of(server)

        for number in range(1, 100):
            if "Keeping imported" in server.output:
                break

            project.edit(f"version {number}", f"version {number + 1}")
            server.wait_for("Reloaded in")

        server.rewind()
        server.wait_for("Keeping imported")
        imports = project.imports()
        project.edit("def index", "def  index")
        until_answered(port, f"version {number} library 1 setting 1")
        until(lambda: server.output.count("Reloaded in") == number, "the reload")
        assert project.imports() == imports
