"""The variables of ``.env``, ``.flaskenv`` and the file of ``--env-file``, which may
change as the server runs.
"""

from __future__ import annotations

import contextlib
import os
import sys

import click
from flask.cli import load_dotenv


def env_file(root: click.Context) -> str | None:
    """The real path of the file that ``flask --env-file`` was given, or its variable.

    :param root: the context of ``flask`` itself, which doesn't keep the path.
    """
    name = "env_file"

    # Not asked without need: a test's arguments are not those of the process.
    if root.get_parameter_source(name) not in (
        click.core.ParameterSource.COMMANDLINE,
        click.core.ParameterSource.ENVIRONMENT,
    ):
        return None

    try:
        given, _, _ = root.command.make_parser(root).parse_args(sys.argv[1:])
    except click.UsageError:
        given = {}

    for parameter in root.command.params:
        if parameter.name == name:
            value, _ = parameter.consume_value(root, given)
            return os.path.realpath(value) if isinstance(value, str) else None

    return None


def files(path: str | None, defaults: bool) -> list[str]:
    """The files that ``flask`` reads, as far as they exist.

    :param path: the file of ``--env-file``.
    :param defaults: whether ``.flaskenv`` and ``.env`` are read.
    """
    try:
        from dotenv import find_dotenv  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return []

    found = []

    if defaults:
        with contextlib.suppress(OSError):  # the current directory is gone
            found += [find_dotenv(name, usecwd=True) for name in (".flaskenv", ".env")]

    if path is not None and os.path.isfile(path):
        found.append(path)

    return [path for path in found if path]


def values_in_effect(path: str | None, defaults: bool) -> dict[str, str]:
    """The variables of the environment that have been taken from the files.

    The parameters are those of :func:`files`.
    """
    found = files(path, defaults)

    if not found:
        return {}

    from dotenv import dotenv_values

    return {
        name: value
        for file in found
        for name, value in dotenv_values(file, encoding="utf-8").items()
        if value is not None and os.environ.get(name) == value
    }


def read_again(before: dict[str, str], path: str | None, defaults: bool) -> None:
    """Take the values the files hold now in place of those they held before.

    Variables that the person has set in the shell stay, as ever.

    :param before: what :func:`values_in_effect` said when the command started.
    """
    if not before and not files(path, defaults):
        return

    for name, value in before.items():
        if os.environ.get(name) == value:
            del os.environ[name]

    with contextlib.suppress(FileNotFoundError):  # the current directory is gone
        try:
            load_dotenv(path, load_defaults=defaults)
        except TypeError:
            # Flask 3.0 reads one or the others, and always the others, first.
            load_dotenv()

            if path is not None:
                load_dotenv(path)
