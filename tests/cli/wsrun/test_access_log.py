"""The lines of the log: those of ``flask run``, where it has them."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest

from ...process import Process, port_of
from ..apps import get

APP = """
from flask import Flask, abort

app = Flask(__name__)


@app.route("/<int:status>")
def answer(status):
    return "", status


@app.route("/\u00e9\u4e2d")
def unicode():
    return ""
"""
#: One of each colour, and what a terminal must not obey.
PATHS = [
    *("/200", "/304", "/302", "/404", "/400", "/500", "/503"),
    *("/%C3%A9%E4%B8%AD", "/%1b%5b31m%0d%5c", "/200?a=%ff&b=%20%22"),
]
COLOUR = re.compile("\x1b\\[")


def lines_of(
    directory: Path, command: str, env: t.Mapping[str, str], terminal: bool
) -> list[str]:
    """The access lines of a server for the same requests, without their dates."""
    with Process(
        *("flask", command, "--port", "0"),
        cwd=directory,
        env={"NO_COLOR": None, **env},
        terminal=terminal,
    ) as server:
        port = int(server.wait_for(r"Running on http://127\.0\.0\.1:(\d+)")[1])

        for path in PATHS:
            get(port, path)

        server.wait_for(rf"(?s)(127.0.0.1 - - .*?\n){{{len(PATHS)}}}")
        return [
            re.sub(r"\[\d\d/.*?\]", "[date]", line)
            for line in server.output.splitlines()
            if line.startswith("127.0.0.1 - - ")
        ]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


def test_lines_in_a_terminal_are_those_of_flask_run(project: Path) -> None:
    """Format and colours are Werkzeug's, whatever the status and the path."""
    ours = lines_of(project, "wsrun", {}, terminal=True)
    assert ours == lines_of(project, "run", {}, terminal=True)
    assert any(COLOUR.search(line) for line in ours)


@pytest.mark.parametrize(("env", "terminal"), [({"NO_COLOR": "1"}, True), ({}, False)])
def test_colours_are_only_where_they_are_wanted(
    project: Path, env: dict[str, str], terminal: bool
) -> None:
    """NO_COLOR is respected, and a pipe gets none."""
    lines = lines_of(project, "wsrun", env, terminal)
    assert len(lines) == len(PATHS)
    assert not any(COLOUR.search(line) for line in lines)


def test_banner_is_coloured_in_a_terminal(project: Path) -> None:
    """The warning stands out, as with 'flask run'."""
    with Process(
        *("flask", "wsrun", "--port", "0"), cwd=project, terminal=True
    ) as server:
        port_of(server)
        assert "\x1b[31m\x1b[1mWARNING" in server.output
