"""The command itself: what its options and variables mean."""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask.cli import FlaskGroup

from flask_sockets_cli import interpreter, listener, supervisor
from flask_sockets_cli.settings import Settings

from .apps import SETTINGS


class Started(t.NamedTuple):
    result: Result
    settings: Settings | None


@pytest.fixture
def wsrun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> t.Any:
    """Runs the command up to the point where it would serve."""
    monkeypatch.chdir(tmp_path)
    seen: list[Settings] = []

    class Supervisor:
        def __init__(self, settings: Settings, *args: object) -> None:
            seen.append(settings)

        def run(self) -> int:
            return 0

    monkeypatch.setattr(supervisor, "Supervisor", Supervisor)
    monkeypatch.setattr(interpreter, "start_interpreter", lambda listener, forks: None)
    # The command line sets it, and it is to be as before afterwards.
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "false")

    def run(*arguments: str, env: dict[str, str] | None = None) -> Started:
        seen.clear()
        result = CliRunner().invoke(
            FlaskGroup(),
            arguments,
            env={"FLASK_DEBUG": "0", "FLASK_WSRUN_PORT": "0", **(env or {})},
            catch_exceptions=False,
        )
        # For people, where a test fails.
        print(result.output)
        return Started(result, seen[0] if seen else None)

    return run


def test_defaults_are_those_of_flask_run(wsrun: t.Any) -> None:
    """Without options it serves on 127.0.0.1, neither reloading nor debugging."""
    _, settings = wsrun("wsrun")
    assert settings.host == "127.0.0.1"
    assert settings.app is None
    assert not settings.reload
    assert not settings.debugger
    assert settings.certificate is None
    assert settings.grace == 1.0


def test_port_default_is_5000(wsrun: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The port is 5000 unless something else is asked for."""
    asked = []

    def open_listener(host: str, port: int) -> t.Any:
        asked.append((host, port))
        raise SystemExit(0)

    monkeypatch.setattr(listener, "open_listener", open_listener)
    wsrun("wsrun", env={"FLASK_WSRUN_PORT": ""})
    assert asked == [("127.0.0.1", 5000)]


@pytest.mark.parametrize("arguments", [["--debug", "wsrun"], ["wsrun", "--debug"]])
def test_debug_mode_turns_reloader_and_debugger_on(
    wsrun: t.Any, arguments: list[str]
) -> None:
    """'--debug' may stand on either side of the command's name."""
    _, settings = wsrun(*arguments)
    assert settings.debug
    assert settings.reload
    assert settings.debugger


def test_options_win_over_debug_mode(wsrun: t.Any) -> None:
    """What is said of the reloader and the debugger counts, whatever the mode."""
    _, settings = wsrun("--debug", "wsrun", "--no-reload", "--no-debugger")
    assert (settings.debug, settings.reload, settings.debugger) == (True, False, False)
    _, settings = wsrun("wsrun", "--reload", "--debugger")
    assert (settings.debug, settings.reload, settings.debugger) == (False, True, True)


def test_app_is_passed_on(wsrun: t.Any) -> None:
    """The app's import path travels as it was given."""
    _, settings = wsrun("--app", "some.module:make('x')", "wsrun")
    assert settings.app == "some.module:make('x')"


def test_files_and_patterns_are_separated_as_paths_are(wsrun: t.Any) -> None:
    """Several values are one option, as with 'flask run'."""
    _, settings = wsrun(
        "wsrun",
        *("--extra-files", os.pathsep.join(["a.txt", "b/*.json"])),
        *("--exclude-patterns", os.pathsep.join(["tests", "*/gen/*"])),
    )
    assert settings.extra_files == ("a.txt", "b/*.json")
    assert settings.exclude_patterns == ("tests", "*/gen/*")


def test_variables_of_wsrun_count_before_those_of_run(wsrun: t.Any) -> None:
    """FLASK_RUN_* counts where FLASK_WSRUN_* is not set, and an option before both."""
    run = {"FLASK_RUN_HOST": "127.0.0.2", "FLASK_RUN_RELOAD": "1"}
    both = {**run, "FLASK_WSRUN_HOST": "127.0.0.3", "FLASK_WSRUN_RELOAD": "0"}
    _, settings = wsrun("wsrun", env=run)
    assert (settings.host, settings.reload) == ("127.0.0.2", True)
    _, settings = wsrun("wsrun", env=both)
    assert (settings.host, settings.reload) == ("127.0.0.3", False)
    _, settings = wsrun("wsrun", "--host", "127.0.0.4", "--reload", env=both)
    assert (settings.host, settings.reload) == ("127.0.0.4", True)


def test_modules_to_preload_are_separated_by_spaces_in_the_variable(
    wsrun: t.Any,
) -> None:
    """Several modules are several options, or words of one variable."""
    _, settings = wsrun("wsrun", "--preload", "pandas", "--preload", "sqlalchemy.orm")
    assert settings.preload == ("pandas", "sqlalchemy.orm")
    variable = {"FLASK_WSRUN_PRELOAD": "pandas sqlalchemy.orm"}
    _, settings = wsrun("wsrun", env=variable)
    assert settings.preload == ("pandas", "sqlalchemy.orm")


def test_grace_has_a_variable(wsrun: t.Any) -> None:
    """Options that 'flask run' has not follow the same rule."""
    _, settings = wsrun("wsrun", env={"FLASK_WSRUN_GRACE": "2.5"})
    assert settings.grace == 2.5


def test_file_of_variables_may_be_named_by_a_variable(
    wsrun: t.Any, tmp_path: Path
) -> None:
    """As 'flask' itself takes it, and without one nothing is named."""
    pytest.importorskip("dotenv")
    (tmp_path / "variables").write_text("")
    _, settings = wsrun("wsrun", env={"FLASK_ENV_FILE": "variables"})
    assert settings.env_file == str(tmp_path / "variables")
    assert wsrun("wsrun").settings.env_file is None


def test_live_is_off_unless_asked_for(wsrun: t.Any) -> None:
    """By the option or its variable, and by no variable of 'flask run'."""
    asked = {"FLASK_WSRUN_LIVE": "1"}
    assert wsrun("--debug", "wsrun", "--live").settings.live
    assert wsrun("--debug", "wsrun", env=asked).settings.live
    assert not wsrun("--debug", "wsrun").settings.live
    assert not wsrun("--debug", "wsrun", env={"FLASK_RUN_LIVE": "1"}).settings.live
    assert not wsrun("--debug", "wsrun", "--no-live", env=asked).settings.live


@pytest.mark.parametrize(
    "arguments",
    [[], ["--reload"], ["--debugger"], ["--debug", "--no-reload"]],
)
def test_variable_for_live_counts_in_debug_mode_only(
    wsrun: t.Any, arguments: list[str]
) -> None:
    """It may stand in a '.flaskenv' that is used without debug mode, too."""
    result, settings = wsrun("wsrun", *arguments, env={"FLASK_WSRUN_LIVE": "1"})
    assert result.exit_code == 0
    assert not settings.live


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--port", "70000"], "--port"),
        (["--port", "http"], "--port"),
        (["--grace", "-1"], "--grace"),
        (["--cert", "missing.pem"], "--cert"),
        (["--cert", __file__], "--key"),
        (["--key", __file__], "--cert"),
        (["--cert", "adhoc", "--key", __file__], "--cert"),
        (["--open", "--host", "unix://app.sock"], "--open"),
        (["--live"], "--debug"),
        (["--live", "--reload"], "--debug"),
        (["--live", "--debug", "--no-reload"], "--reload"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage_has_status_2(
    wsrun: t.Any, arguments: list[str], word: str
) -> None:
    """A usage error names the option, and nothing is started."""
    result, settings = wsrun("wsrun", *arguments)
    assert result.exit_code == 2
    assert word in result.output.splitlines()[-1]
    assert settings is None


def test_settings_survive_the_way() -> None:
    """What is sent to another interpreter arrives as it was."""
    settings = dataclasses.replace(
        SETTINGS, app="a:b('c')", preload=("slow",), dotenv={"A": "1"}
    )
    sent = json.dumps(dataclasses.asdict(settings))
    received = Settings(**json.loads(sent))
    assert received.app == settings.app
    assert received.dotenv == settings.dotenv
    assert json.dumps(dataclasses.asdict(received)) == sent
