"""Edits that the system does not tell of are found all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ...process import Process, port_of, program
from ..apps import get, until_answered, write_app, wsrun

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts file systems")


def test_everything_is_found_by_polling(tmp_path: Path) -> None:
    """Edits of equal size and time, directories that are new, files that are gone, and
    what is pruned does not count.
    """
    module = tmp_path / "module.py"

    def write(version: int) -> None:
        module.write_text(f"version = {version}\n")
        os.utime(module, (1_700_000_000, 1_700_000_000))

    write(1)
    write_app(
        tmp_path,
        more="import module\n\n@app.route('/v')\ndef v():\n"
        "    return str(module.version)\n",
    )

    with wsrun(tmp_path, env={"FLASK_WSRUN_POLL": "1"}) as server:
        port = port_of(server)
        server.wait_for(r"^ \* Reloading with polling$")

        for version in (2, 3):
            write(version)
            until_answered(port, str(version), "/v")

        (tmp_path / "node_modules").mkdir()
        (tmp_path / "node_modules" / "tool.py").write_text("a = 1\n")
        (tmp_path / "package" / "deep").mkdir(parents=True)
        (tmp_path / "package" / "deep" / "new.py").write_text("a = 1\n")
        server.wait_for("Detected change in 'package/deep/new.py', reloading")
        server.wait_for("Reloaded in")
        (tmp_path / "package" / "deep" / "new.py").unlink()
        server.wait_for("Detected change in 'package/deep/new.py', reloading")
        server.wait_for("Reloaded in")
        assert "tool.py" not in server.output


def test_mount_that_does_not_tell_of_changes_is_polled_by_itself(
    tmp_path: Path,
) -> None:
    """Here an overlay, whose lower layer is edited where it is."""
    lower, merged = tmp_path / "lower", tmp_path / "merged"

    for directory in (lower, merged):
        directory.mkdir()

    app = write_app(lower)
    # A process may mount what it likes in namespaces of its own.
    unshare = [program("unshare"), "-Urm", "sh", "-c"]
    mount = f"mount -t overlay overlay -o lowerdir={lower}:{tmp_path}/empty {merged}"
    (tmp_path / "empty").mkdir()

    if subprocess.run([*unshare, mount], capture_output=True).returncode != 0:
        pytest.skip("The kernel lets no user mount an overlay.")

    flask = str(Path(sys.executable).parent / "flask")
    command = f'{mount} && cd {merged} && exec {flask} "$@"'
    options = ("--debug", "wsrun", "--port", "0")

    with Process(*unshare, command, "sh", *options, cwd=tmp_path) as server:
        port = port_of(server)
        server.wait_for(
            rf"Reloading with watchdog, and polling in '{merged}' \(overlay"
        )
        assert get(port) == (200, "version 1")
        app.write_text(app.read_text().replace("version 1", "version 2"))
        server.wait_for("Reloaded in")
        assert get(port) == (200, "version 2")
