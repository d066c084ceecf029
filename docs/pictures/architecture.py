"""Draw ``architecture.svg``: the packages, one above the other.

Run it from anywhere::

    python docs/pictures/architecture.py
"""

from __future__ import annotations

import typing as t
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Part(t.NamedTuple):
    """A package in the drawing."""

    path: str
    says: str


#: From the top to the bottom. What stands on one floor stands side by side.
FLOORS = [
    [
        Part("flask_sockets_cli/watch", "which files have changed"),
        Part("flask_sockets_cli/warm", "the process that forks"),
        Part("flask_sockets_cli/serve", "loads and serves the app"),
    ],
    [Part("flask_sockets", "the extension, routing, the handshake, the WebSocket")],
    [Part("flask_sockets/testing", "the test client")],
    [
        Part("flask_sockets/serving", "how servers hand over a socket"),
        Part("flask_sockets/topics", "many WebSockets, brokers"),
    ],
    [Part("flask_sockets/wire", "one WebSocket over one socket: frames, the protocol")],
]

WIDTH, FLOOR, GAP, MARGIN = 760, 64, 14, 16


def draw() -> str:
    height = len(FLOORS) * (FLOOR + GAP) + 2 * MARGIN - GAP
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" font-family="sans-serif" role="img">',
        "<title>The packages of Flask-Sockets, one above the other</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
    ]
    for number, parts in enumerate(FLOORS):
        y = MARGIN + number * (FLOOR + GAP)
        width = (WIDTH - 2 * MARGIN - GAP * (len(parts) - 1)) / len(parts)
        for place, part in enumerate(parts):
            x = MARGIN + place * (width + GAP)
            fill = "#fdf3e1" if part.path.startswith("flask_sockets_cli") else "#e3f1f0"
            lines += [
                f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{FLOOR}" rx="6"'
                f' fill="{fill}" stroke="#68807e"/>',
                f'<text x="{x + 12:.1f}" y="{y + 26}" font-family="monospace"'
                f' font-size="15" font-weight="bold">{part.path}</text>',
                f'<text x="{x + 12:.1f}" y="{y + 48}" font-size="13" fill="#444">'
                f"{part.says}</text>",
            ]
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw())
