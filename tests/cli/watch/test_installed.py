"""What is told of libraries that come into a directory of libraries."""

from __future__ import annotations

from pathlib import Path

import pytest

from flask_sockets_cli.watch.installed import Installation, Installed


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
    assert installed.look() == ([], False)
    (site_packages / "new-1.dist-info").mkdir()
    assert installed.look() == ([], True)
    install(site_packages, "new-1", "new.py,,\n")
    assert installed.look() == ([Installation("new 1", ["new"], False)], False)
    assert installed.look() == ([], False)


def test_library_that_is_installed_again_is_told_of(site_packages: Path) -> None:
    """Whether its version is another one or not."""
    install(site_packages, "library-1", "library.py,,\n")
    installed = Installed([str(site_packages)])
    install(site_packages, "library-1", "library.py,,\nlibrary2.py,,\n")
    found, _ = installed.look()
    assert found == [Installation("library 1", ["library", "library2"], False)]


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
    [found], _ = installed.look()
    assert found.title == "Some_Name 1.0"
    assert found.modules == ["fast", "module", "package"]
    assert found.is_link


def test_directories_without_libraries_are_no_matter(tmp_path: Path) -> None:
    """Only those that installers use, as far as they exist."""
    assert Installed([str(tmp_path), str(tmp_path / "site-packages")]).directories == []
