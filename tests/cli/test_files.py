"""Which files belong to libraries."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import flask

from flask_sockets_cli.files import is_library


def test_libraries_are_told_from_the_app(tmp_path: Path) -> None:
    """Installed packages and Python's own modules are no part of the app."""
    assert is_library(flask.__file__)
    assert is_library(os.__file__)
    assert is_library(os.path.join(sysconfig.get_paths()["purelib"], "some.py"))
    assert is_library("<frozen runpy>")
    assert not is_library(str(tmp_path / "app.py"))
    assert not is_library(__file__)
