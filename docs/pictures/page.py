"""Take ``page.png``: the chat of the example app, open in two tabs of a browser.

Run it from the repository, with Chromium and Playwright::

    python docs/pictures/page.py
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parents[2]

#: What the two say, in turn.
TALK = [
    "Is anybody here?",
    "I am, in the other tab.",
    "Then it works.",
    "Save a file: the server reloads, and nothing gets lost.",
]


def take(browser: Browser, url: str, target: Path) -> None:
    """Let Ada and Grace talk to each other, and draw their pages side by side."""
    size = {"width": 560, "height": 560}
    context = browser.new_context(viewport=t.cast("t.Any", size), device_scale_factor=1)
    pages = [context.new_page() for _ in range(2)]
    for page, name in zip(pages, ("Ada", "Grace"), strict=True):
        page.goto(url)
        page.locator("#name").fill(name)
        page.keyboard.press("Enter")
    for page in pages:
        page.locator("#state[data-state=connected]").wait_for()
        for name in "Ada", "Grace":
            page.locator("#people", has_text=name).wait_for()
    for number, text in enumerate(TALK):
        pages[number % 2].locator("#text").fill(text)
        pages[number % 2].keyboard.press("Enter")
        for page in pages:
            page.get_by_text(text).wait_for()
    images = [page.screenshot() for page in pages]
    context.close()

    together = browser.new_page(viewport={"width": 1140, "height": 580})
    for image in images:
        together.evaluate(
            "(url) => { const image = new Image(); image.src = url;"
            " image.style = 'margin: 10px 0 0 5px; border-radius: 6px;"
            " box-shadow: 0 0 4px #8888'; document.body.style.margin = 0;"
            " document.body.append(image); return image.decode(); }",
            "data:image/png;base64," + base64.b64encode(image).decode(),
        )
    together.screenshot(path=target)
    together.close()


def main(target: Path) -> None:
    flask = str(Path(sys.executable).with_name("flask"))
    command = [flask, "--app", "example_app", "wsrun", "--port", "0"]
    with (
        subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True
        ) as server,
        sync_playwright() as playwright,
    ):
        assert server.stderr is not None
        url = next(
            found[1]
            for line in server.stderr
            if (found := re.search(r"Running on (\S+)", line))
        )
        executable = shutil.which("chromium-headless-shell") or shutil.which("chromium")
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox"]
        )
        take(browser, url, target)
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main(Path(__file__).with_suffix(".png"))
