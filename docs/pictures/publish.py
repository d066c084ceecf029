"""Draw ``publish.svg``: how a publication goes through Redis to many clients.

Run it from anywhere::

    python docs/pictures/publish.py
"""

from __future__ import annotations

import typing as t
from pathlib import Path

#: Who takes part, from left to right.
PARTS = ["client A", "process 1", "Redis", "process 2", "clients B, C"]


class Step(t.NamedTuple):
    """An arrow from one part to another."""

    source: int
    target: int
    says: str


STEPS = [
    Step(4, 3, "connect; ws.subscribe(…)"),
    Step(3, 2, "SUBSCRIBE, once per topic"),
    Step(0, 1, "a message"),
    Step(1, 2, "PUBLISH"),
    Step(2, 1, "to all that are subscribed,"),
    Step(2, 3, "in the same order"),
    Step(1, 0, "a frame, made once"),
    Step(3, 4, "a frame, made once"),
]

COLUMN, ROW, TOP, MARGIN = 190, 40, 60, 80


def draw() -> str:
    width = COLUMN * (len(PARTS) - 1) + 2 * MARGIN
    height = TOP + ROW * (len(STEPS) + 1)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="sans-serif" font-size="13"'
        ' role="img">',
        "<title>How a publication reaches the clients of two processes</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8"'
        ' markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="#0e756a"/>'
        "</marker></defs>",
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, name in enumerate(PARTS):
        x = MARGIN + number * COLUMN
        lines += [
            f'<line x1="{x}" y1="{TOP - 14}" x2="{x}" y2="{height - 12}"'
            ' stroke="#bbb" stroke-dasharray="4 3"/>',
            f'<rect x="{x - 60}" y="16" width="120" height="30" rx="6"'
            ' fill="#e3f1f0" stroke="#68807e"/>',
            f'<text x="{x}" y="36" text-anchor="middle" font-weight="bold">'
            f"{name}</text>",
        ]
    for number, step in enumerate(STEPS):
        start, end = (MARGIN + part * COLUMN for part in step[:2])
        y = TOP + ROW * (number + 1) - 8
        lines += [
            f'<line x1="{start}" y1="{y}" x2="{end}" y2="{y}" stroke="#0e756a"'
            ' stroke-width="1.6" marker-end="url(#tip)"/>',
            f'<text x="{(start + end) // 2}" y="{y - 7}" text-anchor="middle">'
            f"{step.says}</text>",
        ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw())
