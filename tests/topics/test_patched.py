"""Topics where gevent has patched the process, so that handlers run in greenlets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent

PATCHED = """
import gevent.monkey
gevent.monkey.patch_all()
import sys
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_all_that_is_tested_with_threads_holds_for_greenlets() -> None:
    arguments = ["-q", "-n", "0", "-p", "no:cacheprovider", "test_topics.py"]
    result = subprocess.run(
        [sys.executable, "-c", PATCHED, *arguments],
        cwd=HERE,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
