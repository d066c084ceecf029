"""What the warm process does before it forks servers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

#: Patches as the warm process does, and counts how often all distributions are read.
PATCHING = """
import importlib.metadata

reads = 0
distributions = importlib.metadata.distributions

def counted(**options):
    global reads
    reads += 1
    return distributions(**options)

importlib.metadata.distributions = counted

from flask_sockets_cli.warm.main import warm_up

warm_up()
assert importlib.metadata.entry_points(group="gevent.plugins.monkey.did_patch_all")
import plugin, socket
print(reads, plugin.events, socket.socket.__module__.startswith("gevent"))
"""


def test_plugins_of_gevent_are_looked_for_once(tmp_path: Path) -> None:
    """They are told of the patching, and installed distributions are read one time, and
    not for each module that is patched.
    """
    information = tmp_path / "plugin-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Name: plugin\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[gevent.plugins.monkey.did_patch_all]\nplugin = plugin:tell\n"
    )
    (tmp_path / "plugin.py").write_text(
        "events = 0\n\ndef tell(event):\n    global events\n    events += 1\n"
    )
    code = f"import sys; sys.path.append({str(tmp_path)!r}){PATCHING}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "2 1 True\n", done.stderr
