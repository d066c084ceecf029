"""Every block of every page is run, or read by whoever would read it.

What a block is for is shown by the other files here. A new block needs no test of its
own to be looked at: this one finds it.
"""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import subprocess
import tomllib
import typing as t

import click
import flask
import pytest
from flask.cli import FlaskGroup

from flask_sockets import Sockets
from flask_sockets.extension import DEFAULT_CONFIG

from ..documents import ROOT, Document, run_block

PAGES = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))

#: Apps of other libraries. Here only their syntax is looked at.
OF_OTHERS = ("Flask-Sock", "Flask-SocketIO", "Quart", "APIFlask", "Sentry")

#: Pages whose blocks are files of one project. Their tests run that.
PROJECTS = ("docs/tutorial.md", "docs/recipes/pytest.md")


def documents_with(*languages: str) -> list[str]:
    return [
        path
        for path in PAGES
        if any(block.language in languages for block in Document(path).blocks)
    ]


def commands_of(text: str) -> t.Iterator[list[str]]:
    """The commands of a block, without variables, comments and what they are given."""
    for line in text.replace("\\\n", "").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            del words[0]
        if words:
            yield words


@pytest.mark.parametrize("path", documents_with("python"))
def test_the_python_of_a_page_runs(path: str) -> None:
    """From top to bottom, as one module, with an app there already.

    Tests, and the parts of a project, are run where the page has its test.
    """
    app = flask.Flask("app")
    app.secret_key = "test"
    names: dict[str, t.Any] = {"app": app, "sockets": Sockets(app), "__name__": "app"}
    for block in Document(path).blocks:
        if block.language != "python":
            continue
        caption = block.caption or ""
        if path in PROJECTS or caption in OF_OTHERS or caption.startswith("test_"):
            compile(block.text, path, "exec")
        else:
            run_block(block, names, path)


@pytest.mark.parametrize("path", documents_with("sh"))
def test_the_commands_of_a_page_can_be_given(path: str) -> None:
    """The shell knows the syntax, and programs of ours have such options."""
    for block in Document(path).blocks:
        if block.language != "sh":
            continue
        subprocess.run(["sh", "-n"], input=block.text, text=True, check=True)
        for words in commands_of(block.text):
            if words[0] == "flask":
                check_flask(words[1:])
            elif words[0] == "gunicorn":
                check_gunicorn(words[1:])


def check_flask(arguments: list[str]) -> None:
    """Follow the names of commands, and let the last one read what is left."""
    command: click.Command = FlaskGroup()
    context = click.Context(command, info_name="flask")
    while isinstance(command, click.Group):
        # Without callbacks of options, which would load an app and set variables.
        _, arguments, _ = command.make_parser(context).parse_args(arguments)
        if not arguments:
            return
        name, *arguments = arguments
        command = subcommand(command, name)
        context = click.Context(command, info_name=name, parent=context)
    command.make_parser(context).parse_args(arguments)


def subcommand(group: click.Group, name: str) -> click.Command:
    # Not 'get_command' of Flask's group, which loads an app to look for its commands.
    if isinstance(group, FlaskGroup):
        for entry in importlib.metadata.entry_points(group="flask.commands", name=name):
            return t.cast("click.Command", entry.load())
    return group.commands[name]


def check_gunicorn(arguments: list[str]) -> None:
    from gunicorn.config import Config

    Config().parser().parse_args(arguments)


def test_each_language_has_a_reader() -> None:
    """What is in another one needs a test here that reads or runs it."""
    read = {
        # By the tests above.
        "python",
        "sh",
        # By a browser, in 'test_scripts.py' and 'test_first_steps.py'.
        "html",
        "js",
        # By nginx itself, in 'test_serving.py'.
        "nginx",
        # Here.
        "toml",
        # By people only.
        "text",
    }
    for path in PAGES:
        for block in Document(path).blocks:
            assert block.language in read, f"{path} has a block of {block.language!r}."
            if block.language == "toml":
                tomllib.loads(block.text)


def test_no_block_is_left_out() -> None:
    """What looks like a block to Sphinx is one to these tests."""
    for path in PAGES:
        text = (ROOT / path).read_text()
        fences = re.findall(
            r"^```+(?!\{(?:toctree|include|literalinclude|eval-rst))"
            r"(\S.*)$",
            text,
            re.MULTILINE,
        )
        assert len(fences) == len(Document(path).blocks), path


def test_links_lead_somewhere() -> None:
    """Those of the README and of the pages, within the repository."""
    for path in ["README.md", *PAGES]:
        text = (ROOT / path).read_text()
        for target in re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", text):
            assert ((ROOT / path).parent / target).exists(), f"{path}: {target}"


def test_pip_install_names_projects_that_are_known() -> None:
    """Not a misspelt one, which may be somebody's trap."""
    known = {
        "gunicorn[gevent]",
        "redis",
        "pytest",
        "python-dotenv",
        "-q",
        "-e",
    }
    for path in PAGES:
        for block in Document(path).blocks:
            if block.language == "sh":
                for words in commands_of(block.text):
                    if words[:2] == ["pip", "install"]:
                        for word in words[2:]:
                            assert word in known or word.startswith("../"), word


# Tables that have to be complete


def test_all_settings_are_in_the_reference() -> None:
    """With their defaults."""
    text = (ROOT / "docs/reference/config.md").read_text()
    for name, value in DEFAULT_CONFIG.items():
        row = f"| `{name}` | {written(value)} |"
        assert row in text, f"docs/reference/config.md lacks this row:\n{row}"


def written(default: object) -> str:
    """A default as a person writes it."""
    if default == 2**20:
        return "1 MiB"
    if isinstance(default, str):
        return f'`"{default}"`'
    if default is None or isinstance(default, bool):
        return f"`{default}`"
    return f"{default:,g}"


def test_all_options_are_in_the_reference() -> None:
    """Of 'flask wsrun' and of the commands of 'flask sockets'."""
    text = (ROOT / "docs/reference/cli.md").read_text()
    for entry in importlib.metadata.entry_points(group="flask.commands"):
        if entry.value.startswith("flask_sockets_cli"):
            command = entry.load()
            for each in [command, *getattr(command, "commands", {}).values()]:
                for parameter in each.params:
                    if isinstance(parameter, click.Option):
                        option = max(parameter.opts, key=len)
                        assert option in text, (
                            f"docs/reference/cli.md lacks {option!r}."
                        )


def test_all_public_names_are_in_the_reference() -> None:
    """But for those that stand for another name or another library."""
    text = (ROOT / "docs/reference/api.md").read_text()
    aliases = {"Rule", "WebSocketError", "Worker", "worker"}
    source = (ROOT / "flask_sockets/__init__.py").read_text()
    for name in set(re.findall(r"import (\w+) as \1", source)) - aliases:
        assert re.search(rf":: {name}\b", text), (
            f"docs/reference/api.md lacks {name!r}."
        )
