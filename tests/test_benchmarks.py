"""The benchmarks run, whatever they measure."""

from __future__ import annotations

import sys
from pathlib import Path

from .process import Process

ROOT = Path(__file__).parent.parent


def test_the_echo_benchmark_measures_our_server():
    """In its quick mode, and without the peers, which are not installed for tests."""
    arguments = ["benchmarks/echo.py", "--quick", "--only", "ours"]
    with Process(sys.executable, *arguments, cwd=ROOT, patience=100) as process:
        process.wait_for(r"^\| ours \(.*\) \|( [\d,.]+ \|){9}$")
        assert process.wait() == 0


def test_the_footprint_is_measured():
    """Of our server, with few connections."""
    arguments = ["benchmarks/footprint.py", "--quick", "--only", "ours"]
    with Process(sys.executable, *arguments, cwd=ROOT, patience=100) as process:
        process.wait_for(r"^\| ours \(.*\) \| [\d.]+ \| [\d,]+ \|$")
        assert process.wait() == 0
