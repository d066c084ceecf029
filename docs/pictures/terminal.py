"""Draw ``terminal.svg``: a terminal in which ``flask wsrun`` really ran.

A small app is served, a WebSocket is opened, a file is saved. What appears in the
terminal meanwhile is drawn. Run it from anywhere::

    python docs/pictures/terminal.py
"""

from __future__ import annotations

import html
import itertools
import os
import pty
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from websockets.sync.client import connect

APP = """from flask import Flask
from flask_sockets import Sockets

app = Flask(__name__)
sockets = Sockets(app)

@sockets.route("/echo")
def echo(ws):
    for message in ws:
        ws.send(message)
"""

COMMAND = "flask --app app wsrun --debug"

#: What the colours of terminals look like on a dark ground.
COLOURS = {31: "#f97583", 32: "#7ee787", 33: "#f2cc60", 35: "#d2a8ff", 36: "#79c0ff"}

#: Of one character of the font, and between two lines, in units of the drawing.
WIDTH, HEIGHT = 7.8, 19
COLUMNS = 110

_STYLE = re.compile(r"\x1b\[([\d;]*)m")
_OTHER_ESCAPES = re.compile(r"\x1b\[[\d;?]*[A-Za-ln-z]")


class Terminal:
    """A pseudo-terminal, and what was written to it."""

    def __init__(self, command: list[str], directory: str) -> None:
        self.text = ""
        self._grown = threading.Condition()
        self._master, slave = pty.openpty()
        environment = {**os.environ, "FLASK_WSRUN_PORT": "0", "TERM": "xterm"}
        self._process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdout=slave,
            stderr=slave,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(slave)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                with self._grown:
                    self.text += data.decode().replace("\r\n", "\n")
                    self._grown.notify_all()
        except OSError:
            pass  # The process has ended.

    def wait_for(self, pattern: str, times: int = 1) -> str:
        """Wait until a pattern has come, and return its first group."""
        with self._grown:
            came = self._grown.wait_for(
                lambda: len(re.findall(pattern, self.text)) >= times, 30
            )
        assert came, f"No {pattern!r} in:\n{self.text}"
        return str(re.findall(pattern, self.text)[-1])

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def record() -> str:
    """What the terminal shows while a WebSocket is used and the app is edited."""
    with tempfile.TemporaryDirectory() as directory:
        app = Path(directory, "app.py")
        app.write_text(APP)
        flask = str(Path(sys.executable).with_name("flask"))
        terminal = Terminal([flask, *COMMAND.split()[1:]], directory)
        try:
            port = terminal.wait_for(r"Running on http://127\.0\.0\.1:(\d+)")
            with connect(f"ws://127.0.0.1:{port}/echo") as client:
                for number in range(3):
                    client.send(f"hello {number}")
                    client.recv(timeout=30)
            terminal.wait_for("closed")
            with connect(f"ws://127.0.0.1:{port}/echo") as client:
                client.send("hello")
                client.recv(timeout=30)
                app.write_text(APP.replace("ws.send(message)", "ws.send(message * 2)"))
                terminal.wait_for("1012")
            with connect(f"ws://127.0.0.1:{port}/echo") as client:
                client.send("hello")
                client.recv(timeout=30)
            terminal.wait_for("closed|1000", 2)
        finally:
            terminal.end()
        # What is different each time, and of no interest.
        text = terminal.text.replace(port, "5000")
        text = re.sub(r"PIN: [\d-]+", "PIN: 123-456-789", text)
        return f"$ {COMMAND}\n{text}"


def draw(text: str) -> str:
    """Draw text with escape sequences for colours as an SVG image."""
    lines = list(wrapped(_OTHER_ESCAPES.sub("", text).rstrip()))
    width = round(max(map(len, lines)) * WIDTH + 32)
    height = len(lines) * HEIGHT + 28
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" role="img">',
        "<title>A terminal in which flask wsrun runs</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#16181d"/>',
        '<g font-family="ui-monospace, Menlo, Consolas, monospace" font-size="13"'
        ' fill="#e6e6e6" xml:space="preserve">',
    ]
    for number, line in enumerate(lines):
        spans = [
            f"<tspan{style}>{html.escape(''.join(part for part, _ in cells))}</tspan>"
            for style, cells in itertools.groupby(line, key=lambda cell: cell[1])
        ]
        y = 28 + number * HEIGHT
        drawn.append(f'<text x="16" y="{y}">{"".join(spans)}</text>')
    return "\n".join([*drawn, "</g>", "</svg>", ""])


def wrapped(text: str) -> Iterator[list[tuple[str, str]]]:
    """The lines of a terminal: characters, each with its attributes in the drawing."""
    style = ""
    for line in text.split("\n"):
        cells = []
        for position, part in enumerate(_STYLE.split(line)):
            if position % 2:
                style = _attributes(style, part)
            else:
                cells += [(character, style) for character in part]
        for start in range(0, max(len(cells), 1), COLUMNS):
            yield cells[start : start + COLUMNS]


def _attributes(style: str, codes: str) -> str:
    for code in map(int, filter(None, codes.split(";"))) if codes else [0]:
        if code == 0:
            style = ""
        elif code == 1:
            style += ' font-weight="bold"'
        elif code in COLOURS:
            style += f' fill="{COLOURS[code]}"'
    return style


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(draw(record()))
