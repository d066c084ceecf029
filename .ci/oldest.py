"""Prints the oldest versions that pyproject.toml admits, as constraints for pip."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

#: Extras for those who work on the package. Their tools may be new.
OWN = {"bench", "dev", "docs", "test"}

text = (Path(__file__).parents[1] / "pyproject.toml").read_text()
project = tomllib.loads(text)["project"]
requirements = project["dependencies"] + [
    requirement
    for extra, those in project["optional-dependencies"].items()
    if extra not in OWN
    for requirement in those
]

for requirement in requirements:
    match = re.match(r"([\w.-]+)(?:\[.*\])?\s*>=\s*([\w.]+)", requirement)
    if match is None:
        raise SystemExit(f"{requirement!r} in pyproject.toml has no oldest version.")
    print(f"{match[1]}=={match[2]}")
