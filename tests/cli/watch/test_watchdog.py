"""What is relied on in watchdog that it doesn't promise."""

from __future__ import annotations

import contextlib
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from flask_sockets_cli.watch import _watchdog

from ...process import Process, port_of, until
from ..apps import get, write_app


@pytest.mark.skipif(sys.platform != "linux", reason="parts for Linux only")
def test_private_parts_of_watchdog_are_there() -> None:
    """Without them nobody would notice that events of files get lost."""
    assert callable(_watchdog.inotify_add_watch), (
        "watchdog has no 'inotify_c.inotify_add_watch' any more. Find out where it adds"
        " watches now, and wrap that in 'watch/_watchdog.py'."
    )
    assert callable(getattr(_watchdog.reader, "_parse_event_buffer", None)), (
        "watchdog has no 'inotify_c.InotifyFD._parse_event_buffer' any more. Find out"
        " where it reads events now, and wrap that in 'watch/_watchdog.py'."
    )


@pytest.mark.skipif(
    int(version("watchdog").partition(".")[0]) > 6,
    reason="this version of watchdog was installed in spite of the dependency",
)
def test_flask_run_reloads_with_the_watchdog_that_comes_along(
    tmp_path: Path,
) -> None:
    """Werkzeug's reloader takes watchdog as soon as it is there."""
    app = write_app(tmp_path)

    with Process(*["flask", "--debug", "run", "--port", "0"], cwd=tmp_path) as process:
        port = port_of(process)
        process.wait_for(r"Restarting with watchdog")
        process.wait_for("Debugger PIN")
        text = app.read_text().replace("version 1", "version 2")

        def is_noticed() -> bool:
            # It does not say when it begins to watch, and an edit before that is lost.
            app.write_text(text)
            return "Detected change in" in process.output

        def is_answered() -> bool:
            # As it reloads, it cuts those who ask.
            with contextlib.suppress(ConnectionError):
                return get(port) == (200, "version 2")
            return False

        until(is_noticed, "flask run to reload")
        until(is_answered, "the edit to be served")
