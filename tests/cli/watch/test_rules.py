"""Which files matter, decided for trees that nobody watches."""

from __future__ import annotations

import os
import sys
import typing as t
from pathlib import Path

import pytest

from flask_sockets_cli.watch.rules import Rules, import_root, module_root


@pytest.fixture
def project(tmp_path: Path) -> Path:
    # Its own name would be pruned, were it not the watched directory itself.
    path = tmp_path.resolve() / ".venv" / "project"
    path.mkdir(parents=True)
    return path


def rules_for(project: Path, **options: t.Any) -> Rules:
    rules = Rules(base=str(project), **options)
    rules.add_root(str(project))
    rules.add_extra_roots()
    return rules


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("app.py", True),
        ("package/deep/module.py", True),
        ("tests/test_app.py", True),
        (".env", True),
        (".flaskenv", True),
        ("deploy/.env", False),
        ("README.md", False),
        ("templates/page.html", False),
        ("app.pyc", False),
        (".git/hooks/some.py", False),
        ("__pycache__/app.py", False),
        ("frontend/node_modules/tool/setup.py", False),
        ("lib/site-packages/flask/app.py", False),
        (".mypy_cache/3.12/app.py", False),
        (".#app.py", False),
        ("#app.py#", False),
        ("app.py~", False),
        (".app.py.swp", False),
        ("4913", False),
    ],
)
def test_what_counts(project: Path, path: str, expected: bool) -> None:
    """Python files and the .env files count; what people do not write does not."""
    assert rules_for(project).counts(str(project / path)) is expected


def test_virtual_environment_is_known_by_its_file(project: Path) -> None:
    """It is pruned whatever its name."""
    (project / "anything").mkdir()
    rules = rules_for(project)
    assert rules.counts(str(project / "anything" / "some.py"))
    (project / "anything" / "pyvenv.cfg").touch()
    assert not rules.counts(str(project / "anything" / "some.py"))
    assert rules.passes_over(str(project / "anything" / "lib"))


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        # Without a slash: the name of a file or of any directory.
        ("generated.py", "a/generated.py", False),
        ("generated*", "a/generated_x/b/c.py", False),
        ("generated", "a/generated.py", True),
        ("build/", "build/b.py", False),
        # With a slash: the whole path, from the current directory.
        ("a/b", "a/b/c.py", False),
        ("a/b", "x/a/b/c.py", True),
        ("a/*.py", "a/c.py", False),
        ("./a/c.py", "a/c.py", False),
        ("*/b/c.py", "a/b/c.py", False),
        # A name above the watched directory says nothing about what is in it.
        ("project", "app.py", True),
        (".venv", "app.py", True),
    ],
)
def test_exclude_patterns(
    project: Path, pattern: str, path: str, expected: bool
) -> None:
    """A pattern means the same everywhere, and holds for all below a directory."""
    rules = rules_for(project, exclude_patterns=[pattern])
    assert rules.counts(str(project / path)) is expected


def test_absolute_exclude_pattern(project: Path) -> None:
    """An absolute pattern is compared as it is."""
    rules = rules_for(project, exclude_patterns=[str(project / "a" / "*")])
    assert not rules.counts(str(project / "a" / "b" / "c.py"))
    assert rules.counts(str(project / "d.py"))


@pytest.mark.parametrize(
    ("extra", "path", "expected"),
    [
        ("conf.toml", "conf.toml", True),
        ("conf.toml", "a/conf.toml", False),
        ("conf", "conf/deep/some.toml", True),
        ("data/*.json", "data/a.json", True),
        ("data/*.json", "data/a.txt", False),
        (".secrets/keys.ini", ".secrets/keys.ini", True),
        ("../outside/some.ini", "../outside/some.ini", True),
        ("conf", "conf/.some.toml.swp", False),
    ],
)
def test_extra_files(project: Path, extra: str, path: str, expected: bool) -> None:
    """Extra files count by name, by directory and by pattern, also from outside."""
    (project / "conf").mkdir()
    rules = rules_for(project, extra_files=[extra])
    full = os.path.normpath(project / path)
    assert rules.counts(full) is expected
    assert os.path.dirname(full) in rules.roots or not rules.needs_root(full)


def test_imported_files_count_whatever_their_name(project: Path) -> None:
    """A compiled extension counts once the server has imported it."""
    rules = rules_for(project)
    extension = str(project / "fast.so")
    assert not rules.counts(extension)
    rules.imported.add(extension)
    assert rules.counts(extension)


def test_clean_tree_is_one_watch(project: Path) -> None:
    """A tree with nothing to prune is watched whole; __pycache__ does not matter."""
    (project / "a" / "b" / "__pycache__").mkdir(parents=True)
    assert rules_for(project).watches() == {str(project): True}


def test_pruned_trees_are_not_watched(project: Path) -> None:
    """Only the directories above a pruned one are taken apart."""
    for directory in (".git/objects", "a/b", "web/node_modules/x", "web/src/deep"):
        (project / directory).mkdir(parents=True)

    assert rules_for(project).watches() == {
        str(project): False,
        str(project / "a"): True,
        str(project / "web"): False,
        str(project / "web" / "src"): True,
    }


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("app.py", False),
        ("package/deep/module.py", False),
        (".venv/src/library/module.py", True),
        ("node_modules/tool/module.py", True),
        ("lib/site-packages/module.py", True),
        ("generated/module.py", False),
        ("../elsewhere/module.py", True),
    ],
)
def test_modules_that_are_watched_for_themselves(
    project: Path, path: str, expected: bool
) -> None:
    """Those outside of all roots, and those below what is pruned by itself."""
    rules = rules_for(project, exclude_patterns=["generated"])
    assert rules.needs_root(os.path.normpath(project / path)) is expected


def test_directory_inside_of_a_watched_one_is_not_watched_twice(
    project: Path,
) -> None:
    """A root below another one has no watch of its own."""
    (project / "a").mkdir()
    rules = rules_for(project)
    rules.add_root(str(project / "a"))
    assert rules.watches() == {str(project): True}


def test_lone_directory_is_watched_without_what_is_below(tmp_path: Path) -> None:
    """The directory of a module that is no package is watched flat."""
    rules = Rules(base=str(tmp_path))
    rules.add_root(str(tmp_path), whole=False)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "deep.py").touch()
    (tmp_path / "flat.py").touch()
    assert rules.watches() == {str(tmp_path): False}
    assert list(rules.all_files()) == [str(tmp_path / "flat.py")]


def test_module_root(tmp_path: Path) -> None:
    """A package is watched from its top, a lone module by its directory."""
    deep = tmp_path / "pkg" / "sub"
    deep.mkdir(parents=True)
    (tmp_path / "pkg" / "__init__.py").touch()
    (deep / "__init__.py").touch()
    assert module_root(str(deep / "mod.py")) == (str(tmp_path / "pkg"), True)
    assert module_root(str(tmp_path / "lone.py")) == (str(tmp_path), False)


def test_import_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the directory that Flask puts on the path for the app."""
    real = tmp_path.resolve()
    monkeypatch.chdir(real)
    (real / "src" / "pkg").mkdir(parents=True)
    (real / "src" / "pkg" / "__init__.py").touch()
    assert import_root(None) == str(real)
    assert import_root("app:create('a:b')") == str(real)
    assert import_root("pkg.web") == str(real)
    assert import_root("src/app.py") == str(real / "src")
    assert import_root("src/pkg/web.py:app") == str(real / "src")
    assert import_root("src/pkg") == str(real / "src")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("templates/page.html", True),
        ("templates/deep/down/page.html", True),
        ("templates/.well-known/page.html", False),
        ("static/style.css", True),
        ("static/node_modules/tool/tool.js", False),
        ("static/.#style.css", False),
        ("static/style.css~", False),
        ("static/4913", False),
        ("static/generated.css", False),
        ("static/some.db", False),
        ("static/some.sqlite3-journal", False),
        ("static/some.log", False),
        ("static/nohup.out", False),
        ("static/catalog", True),
        ("templates/tool.py", False),
        ("templates/extra.html", False),
        (".hidden/templates/page.html", True),
        ("templates", False),
        ("templates2/page.html", False),
        ("README.md", False),
        ("../elsewhere/page.html", True),
    ],
)
def test_what_reloads_pages(project: Path, path: str, expected: bool) -> None:
    """Files of the directories of templates and static files, unless they reload the
    app, and with the exceptions that hold for the app.
    """
    rules = rules_for(
        project, extra_files=["*/extra.html"], exclude_patterns=["generated.*"]
    )
    full = os.path.normpath(project / path)
    assert not rules.is_part_of_pages(full)
    counted = rules.counts(full)
    rules.page_directories = {
        os.path.normpath(project / name)
        for name in ("templates", "static", ".hidden/templates", "../elsewhere")
    }
    assert rules.is_part_of_pages(full) is expected
    assert rules.counts(full) is counted


def test_directories_of_pages_are_watched_wherever_they_are(project: Path) -> None:
    """Inside of a watched one they have no watch of their own. For one that is not
    there yet the directory above it is watched.
    """
    outside = project.parent / "outside"

    for directory in (project / "templates", outside / "files" / "node_modules"):
        directory.mkdir(parents=True)

    rules = rules_for(project)
    rules.page_directories = {
        str(directory)
        for directory in (
            *(project / "templates", project / "static"),
            *(outside / "files", outside / "later", outside / "no" / "way"),
        )
    }
    assert rules.watches() == {
        str(project): True,
        str(outside): False,
        str(outside / "files"): False,
    }


def test_files_of_pages_are_not_read_before_they_change(project: Path) -> None:
    """They may be many and large. Those of a new directory are found."""
    (project / "static" / "new").mkdir(parents=True)
    (project / "static" / "new" / "style.css").touch()
    (project / "static" / "new" / "tool.py").touch()
    rules = rules_for(project)
    rules.page_directories = {str(project / "static")}
    assert list(rules.all_files()) == [str(project / "static" / "new" / "tool.py")]
    assert list(rules.page_files(str(project / "static" / "new"))) == [
        str(project / "static" / "new" / "style.css")
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="needs symbolic links")
def test_links_to_directories_are_not_followed(project: Path) -> None:
    """A link to a directory above does not make the tree endless."""
    (project / "loop").symlink_to(project)
    (project / "a.py").touch()
    rules = rules_for(project)
    assert list(rules.all_files()) == [str(project / "a.py")]
    assert rules.watches() == {str(project): True}
