"""What is told of libraries that come into a directory of libraries."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from flask_sockets_cli.watch.installed import Found, Installation, Installed


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    directory = tmp_path / "site-packages"
    directory.mkdir()
    return directory


def install(directory: Path, title: str, record: str) -> None:
    """Do what an installer does in the end."""
    metadata = directory / f"{title}.dist-info"
    metadata.mkdir(exist_ok=True)
    (metadata / "RECORD").write_text(record)


def test_library_is_told_of_once_it_is_complete(site_packages: Path) -> None:
    """Its record comes last, and until then more is on its way."""
    install(site_packages, "old-1", "old.py,,\n")
    installed = Installed([str(site_packages)])
    assert installed.look() == Found([], [], unfinished=False)
    (site_packages / "new-1.dist-info").mkdir()
    assert installed.look() == Found([], [], unfinished=True)
    install(site_packages, "new-1", "new.py,,\n")
    new = Installation("new 1", ["new"], False)
    assert installed.look() == Found([new], [], unfinished=False)
    assert installed.look() == Found([], [], unfinished=False)


def test_library_that_is_installed_again_is_told_of(site_packages: Path) -> None:
    """Whether its version is another one or not."""
    install(site_packages, "library-1", "library.py,,\n")
    installed = Installed([str(site_packages)])
    install(site_packages, "library-1", "library.py,,\nlibrary2.py,,\n")
    found = Installation("library 1", ["library", "library2"], False)
    assert installed.look() == Found([found], [], unfinished=False)


def test_library_that_is_removed_is_told_of(site_packages: Path) -> None:
    """Once, and not before pip is done with it: until then it lies aside."""
    install(site_packages, "library-1", "library.py,,\n")
    installed = Installed([str(site_packages)])
    metadata = site_packages / "library-1.dist-info"
    aside = metadata.rename(site_packages / "~ibrary-1.dist-info")
    assert installed.look() == Found([], [], unfinished=True)
    shutil.rmtree(aside)
    assert installed.look() == Found([], ["library 1"], unfinished=False)
    assert installed.look() == Found([], [], unfinished=False)
    install(site_packages, "library-1", "library.py,,\n")
    assert [found.title for found in installed.look().installed] == ["library 1"]


def test_library_is_not_removed_by_an_upgrade(site_packages: Path) -> None:
    """The old version may be gone before the new one has come."""
    install(site_packages, "library-1", "library.py,,\n")
    installed = Installed([str(site_packages)])
    (site_packages / "library-2.dist-info").mkdir()
    shutil.rmtree(site_packages / "library-1.dist-info")
    assert installed.look() == Found([], [], unfinished=True)
    install(site_packages, "library-2", "library.py,,\n")
    new = Installation("library 2", ["library"], False)
    assert installed.look() == Found([new], [], unfinished=False)


def test_upgrade_is_told_of_when_pip_is_done(site_packages: Path) -> None:
    """It takes the old version away when the new one is complete, and not if it was
    interrupted before this server was started.
    """
    install(site_packages, "library-1", "library.py,,\n")
    (site_packages / "~ther-1.dist-info").mkdir()
    installed = Installed([str(site_packages)])
    metadata = site_packages / "library-1.dist-info"
    aside = metadata.rename(site_packages / "~ibrary-1.dist-info")
    install(site_packages, "library-2", "library.py,,\n")
    assert installed.look() == Found([], [], unfinished=True)
    shutil.rmtree(aside)
    new = Installation("library 2", ["library"], False)
    assert installed.look() == Found([new], [], unfinished=False)


def test_modules_are_those_of_the_record(site_packages: Path) -> None:
    """Packages, modules and extensions, and no scripts or metadata. A link to a project
    may lead to any.
    """
    installed = Installed([str(site_packages)])
    record = [
        "package/__init__.py,sha256=x,1",
        "module.py,,",
        "fast.cpython-311-x86_64-linux-gnu.so,,",
        '"with, comma/data.txt",,',
        "../../bin/script,,",
        "Some_Name-1.0.dist-info/RECORD,,",
        "__editable__.some.pth,,",
    ]
    install(site_packages, "Some_Name-1.0", "\n".join(record))
    [found] = installed.look().installed
    assert found.title == "Some_Name 1.0"
    assert found.modules == ["fast", "module", "package"]
    assert found.is_link


def test_directories_without_libraries_are_no_matter(tmp_path: Path) -> None:
    """Only those that installers use, as far as they exist."""
    assert Installed([str(tmp_path), str(tmp_path / "site-packages")]).directories == []
