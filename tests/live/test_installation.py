"""What 'pip install' brings is enough, without all that the tests bring."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ..process import Process
from .clients import WebsocketsClient
from .processes import LIVE_APPS

PROJECT = Path(__file__).parents[2]


@pytest.mark.skipif("CI" not in os.environ, reason="It downloads what it installs.")
@pytest.mark.timeout(300)
def test_worker_runs_where_only_the_extra_is_installed(tmp_path: Path) -> None:
    """'gunicorn -k flask_sockets.worker' serves in an environment that has nothing but
    'Flask-Sockets[gunicorn]'."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv/bin/python")
    install = [python, "-m", "pip", "install", "-q", f"{PROJECT}[gunicorn]"]
    subprocess.run(install, check=True)
    with Process(
        *(python, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--no-control-socket"),
        *("-k", "flask_sockets.worker", "bare:app"),
        cwd=LIVE_APPS,
    ) as server:
        port = server.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)")[1]
        client = WebsocketsClient(f"ws://127.0.0.1:{port}/echo")
        client.send("hello")
        assert client.receive() == "hello"
        client.close()
