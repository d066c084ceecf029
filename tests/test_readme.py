"""Every command and snippet of the README is run here, as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import flask
import pytest

from .documents import ROOT, Document, echoes
from .process import Process, port_of

README = Document("README.md")

#: What is in each block of the README, and only there. Each has its test below.
MARKS = {
    "start": "example_app wsrun",
    "test": ".venv/bin/pytest",
    "smallest": "# app.py",
    "smallest run": "flask --app app wsrun --debug",
    "page": "new WebSocket",
    "topics": "def announce()",
}


def block(name: str) -> str:
    return README.find(MARKS[name])


def test_every_block_has_a_test() -> None:
    """What is added to the README is added here."""
    assert sorted(block.text for block in README.blocks) == sorted(map(block, MARKS))


def test_the_readme_is_short() -> None:
    """What needs more words stands in docs/, and the README has a link to it."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_links_are_as_the_address_of_the_project_is() -> None:
    """The index has the README without the files around it. So its links are complete
    as soon as pyproject.toml says where the project is: CONTRIBUTING.md says how. Until
    then both are without an address.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    links = re.findall(r"\]\(([^)\s]+)\)", README.text)
    assert len(links) > 30
    source = project.get("urls", {}).get("Source")
    if source is None:
        assert not [link for link in links if "://" in link]
    else:
        allowed = (f"{source}/blob/main/", f"{source}/raw/main/")
        assert not [link for link in links if not link.startswith(allowed)]


# The set-up commands


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone of the repository holds, and nothing that was made here."""
    folder = tmp_path_factory.mktemp("clone")
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    for name in listing.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


# The interpreter of the tests may itself be one of a virtual environment.
BARE = {
    "VIRTUAL_ENV": None,
    "PATH": os.pathsep.join(
        part
        for part in os.environ["PATH"].split(os.pathsep)
        if Path(part) != Path(sys.prefix, "bin")
    ),
}


@pytest.mark.timeout(400)
def test_the_first_command_starts_the_example(clone: Path) -> None:
    """On a machine that has only Python, by a copy of the line."""
    env = {**BARE, "FLASK_WSRUN_PORT": "0"}
    with Process(
        "/bin/sh", "-c", block("start"), cwd=clone, env=env, patience=300
    ) as process:
        port = port_of(process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as response:
            assert b"<title>" in response.read()
        assert echoes(port)


def test_the_second_command_runs_the_tests() -> None:
    """It installs what the tests need as well, and runs them; the rest is as in the
    first. Whoever runs the tests of a clone has run the line."""
    start, test = shlex.split(block("start")), shlex.split(block("test"))
    different = [
        (one, other) for one, other in zip(start, test, strict=False) if one != other
    ]
    assert different == [(".", ".[test]"), (".venv/bin/flask", ".venv/bin/pytest")]


# The smallest app


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the smallest app, as a reader of the README has it."""
    (tmp_path / "app.py").write_text(block("smallest"))
    return tmp_path


def test_the_smallest_app_runs(project: Path) -> None:
    """With the command that stands below it."""
    arguments = shlex.split(block("smallest run"))
    with Process(*arguments, cwd=project, env={"FLASK_WSRUN_PORT": "0"}) as process:
        assert echoes(port_of(process))


def test_the_page_gets_the_url_of_the_websocket() -> None:
    """The snippet is a template of the app."""
    app = README.run_python()["app"]
    with app.test_request_context("/", base_url="https://example.com"):
        page = flask.render_template_string(block("page"))
    assert 'new WebSocket("wss://example.com/echo")' in page


# Sending to many


def test_what_is_published_reaches_all_that_are_subscribed() -> None:
    """From a handler and from a view."""
    client = README.run_python()["app"].test_client()
    with client.websocket("/chat/lobby") as one, client.websocket("/chat/lobby") as two:
        one.send("hello")
        assert one.receive() == two.receive() == "hello"
        assert client.post("/announce", data={"text": "tea"}).status_code == 204
        assert one.receive() == two.receive() == "tea"
