"""The code blocks of the README and of docs/, as a reader copies them."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from pathlib import Path

from websockets.sync.client import connect

ROOT = Path(__file__).parents[1]

#: Backticks, and either a language or a directive of MyST, whose argument that is.
_BLOCK = re.compile(
    r"^(?P<fence>```+)(?:(?P<language>\w+)|\{code-block\} (?P<argument>\w+))\n"
    r"(?P<options>(?::[\w-]+:[^\n]*\n)*)\n?(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclasses.dataclass(frozen=True)
class Block:
    """One block of code."""

    language: str
    text: str
    #: The file that the reader is told to write this into, or another title.
    caption: str | None
    #: Where the text begins in the file.
    line: int


class Document:
    """A file in Markdown.

    :param path: where it is in the repository.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.text = (ROOT / path).read_text()
        self.blocks = [_read(match) for match in _BLOCK.finditer(self.text)]

    def find(self, text: str, language: str | None = None) -> str:
        """The only block with a text in it, and, if it is given, of a language."""
        found = [
            block.text
            for block in self.blocks
            if text in block.text and language in (None, block.language)
        ]
        assert len(found) == 1, f"{len(found)} blocks of {self.path} have {text!r}."
        return found[0]

    def write_files(self, folder: Path, until: str | None = None) -> None:
        """Do what a reader does who writes each block to the file in its caption.

        :param folder: where the files go.
        :param until: the heading of the section that this reader hasn't read yet.
        """
        end = len(self.text) if until is None else self.text.index(f"\n## {until}")
        for block in self.blocks:
            if block.caption and block.line <= self.text.count("\n", 0, end):
                path = folder / block.caption
                path.parent.mkdir(parents=True, exist_ok=True)
                # At once, as editors do it: a server may be looking.
                draft = path.with_name(f"{path.name}.draft")
                draft.write_text(block.text)
                draft.replace(path)

    def captioned(self, caption: str) -> str:
        """The last block with a caption: a reader has overwritten the others."""
        return [block.text for block in self.blocks if block.caption == caption][-1]

    def run_python(
        self, names: dict[str, t.Any] | None = None, only: str | None = None
    ) -> dict[str, t.Any]:
        """Run the Python of the document as one module, and return its names.

        Each line has the number that it has in the document, for tracebacks.

        :param names: those that are there before.
        :param only: the caption of the only block to run.
        """
        names = {"__name__": "app"} | (names or {})
        for block in self.blocks:
            if block.language == "python" and only in (None, block.caption):
                run_block(block, names, self.path)
        return names


def run_block(block: Block, names: dict[str, t.Any], path: str) -> None:
    source = "\n" * (block.line - 1) + block.text
    exec(compile(source, path, "exec", dont_inherit=True), names)


def _read(match: re.Match[str]) -> Block:
    options = dict(
        t.cast("tuple[str, str]", re.split(r":\s*", line[1:], maxsplit=1))
        for line in match["options"].splitlines()
    )
    caption = options.get("caption")
    return Block(
        language=match["language"] or match["argument"],
        text=match["text"],
        # In backticks, and so in quotes, if Markdown would make something of it.
        caption=caption and caption.strip('"`'),
        line=match.string.count("\n", 0, match.start("text")) + 1,
    )


def echoes(port: int, scheme: str = "ws", **options: t.Any) -> bool:
    """Whether the route ``/echo`` of a server on 127.0.0.1 does what it is for."""
    with connect(f"{scheme}://127.0.0.1:{port}/echo", **options) as client:
        client.send("hello")
        return bool(client.recv(timeout=60) == "hello")
