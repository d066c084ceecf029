"""The quickstart and the tutorial, followed by a reader who copies each block."""

from __future__ import annotations

import contextlib
import shlex
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from ..documents import Document
from ..process import PATIENCE, Process, free_port, port_of
from ..redis_server import RedisServer
from .test_serving import behind_nginx

# They share a browser, which another worker would have to start again.
pytestmark = pytest.mark.xdist_group(__name__)

QUICKSTART = Document("docs/quickstart.md")
TUTORIAL = Document("docs/tutorial.md")

#: Whether a page may send. A person is slower than the handshake, a test isn't.
IS_OPEN = "socket.readyState === WebSocket.OPEN"


def run_tests(folder: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, *arguments], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout


@pytest.fixture
def new_page(browser: Browser) -> t.Iterator[t.Callable[[str], Page]]:
    """Opens a URL as somebody else: with cookies of their own."""
    contexts = []

    def new_page(url: str) -> Page:
        contexts.append(browser.new_context())
        page = contexts[-1].new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(url)
        return page

    yield new_page
    for context in contexts:
        context.close()


def says(page: Page, text: str) -> None:
    page.locator("#text").fill(text)
    page.keyboard.press("Enter")


def sees(page: Page, *lines: str, where: str = "#messages li") -> None:
    expect(page.locator(where)).to_have_text(list(lines), timeout=PATIENCE * 1000)


def test_the_quickstart_leads_to_two_tabs_that_chat(
    tmp_path: Path, new_page: t.Callable[[str], Page]
) -> None:
    """The first app echoes. Then, with the server still running, the chat."""
    command = shlex.split(QUICKSTART.find("wsrun --debug"))
    QUICKSTART.write_files(tmp_path, until="A chat")
    with Process(*command, cwd=tmp_path, env={"FLASK_WSRUN_PORT": "0"}) as process:
        url = f"http://127.0.0.1:{port_of(process)}/"
        page = new_page(url)
        page.wait_for_function(IS_OPEN)
        says(page, "hello")
        sees(page, "hello")
        # Not the test as well: a second reload would close what the tabs have opened.
        QUICKSTART.write_files(tmp_path, until="Test it")
        process.wait_for("Reloaded")
        one, two = new_page(url), new_page(url)
        for tab in one, two:
            # A message that is sent before the other tab is there isn't for it.
            tab.wait_for_function(IS_OPEN)
        process.rewind()
        process.wait_for(r"(?s)(GET /chat/lobby.*101.*){2}")
        says(one, "Hello!")
        sees(one, "Hello!")
        sees(two, "Hello!")


def test_the_test_of_the_quickstart_passes(tmp_path: Path) -> None:
    QUICKSTART.write_files(tmp_path)
    run_tests(tmp_path, "test_chat.py")


@pytest.mark.parametrize("step", ["3. A room", "4. What was said", "5. Who is there"])
def test_each_step_of_the_tutorial_ends_with_an_app_that_runs(
    tmp_path: Path, step: str
) -> None:
    """So does what comes later: see the other tests."""
    TUTORIAL.write_files(tmp_path, until=step)
    check = (
        "from parlour import create_app\n"
        "client = create_app().test_client()\n"
        "assert client.get('/login').status_code == 200\n"
        "assert client.post('/login', data={'user': 'Ada'}).status_code == 302\n"
    )
    if not step.startswith("3"):
        check += (
            "assert client.get('/room/lobby').status_code == 200\n"
            "with client.websocket('/room/lobby') as ws:\n"
            "    ws.send('hello')\n"
            "    while 'hello' not in ws.receive():\n"
            "        pass\n"
        )
    subprocess.run([sys.executable, "-c", check], cwd=tmp_path, check=True)


@pytest.fixture
def parlour(tmp_path: Path) -> Path:
    """What a reader has in the end, with the edits that the text asks for."""
    TUTORIAL.write_files(tmp_path)
    page = tmp_path / "parlour/templates/room.html"
    text = page.read_text()
    head, form, tail = text.partition("</form>\n")
    text = head + form + TUTORIAL.find('id="people"') + tail
    begin = text.index("  function learn(")
    end = text.index("  function showMessage(")
    text = text[:begin] + TUTORIAL.find("people.join") + text[end:]
    page.write_text(text)
    return tmp_path


def test_the_tests_of_the_tutorial_pass(parlour: Path) -> None:
    run_tests(parlour)


def test_the_tutorial_leads_to_two_workers_behind_nginx(
    parlour: Path, new_page: t.Callable[[str], Page]
) -> None:
    """In which people hear each other, see who is there, and miss nothing when gunicorn
    is started again."""
    serve = TUTORIAL.find("FLASK_SECRET_KEY")
    assert "FLASK_BEHIND_PROXY=1" in TUTORIAL.find("BEHIND_PROXY", "sh")
    assert "-b 127.0.0.1:8000" in serve
    command = serve.replace("127.0.0.1:8000", "127.0.0.1:0")
    command = command.replace("gunicorn ", "exec gunicorn --no-control-socket ")
    with RedisServer(parlour) as redis, contextlib.ExitStack() as stack:
        command = command.replace("redis://127.0.0.1:6379", redis.url)
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        with Process(
            *("/bin/sh", "-c", command),
            cwd=parlour,
            env={"PATH": path, "FLASK_BEHIND_PROXY": "1"},
        ) as server:
            behind = server.wait_for(r"Listening at: http://127.0.0.1:(\d+)")[1]
            port = free_port()
            listen = f"listen 127.0.0.1:{port};"
            stack.enter_context(behind_nginx(parlour, int(behind), listen))
            pages = [new_page(f"http://127.0.0.1:{port}/login") for _ in range(2)]
            for page, name in zip(pages, ("Ada", "Bea"), strict=True):
                page.locator("input").fill(name)
                page.keyboard.press("Enter")
            for page in pages:
                sees(page, "Ada, Bea", where="#people")
            says(pages[0], "Is anybody here?")
            for page in pages:
                sees(page, "Ada: Is anybody here?")
            pages[1].get_by_role("button", name="Leave").click()
            sees(pages[0], "Ada", where="#people")

            # What is published from a shell.
            command = TUTORIAL.find("sockets publish")
            command = command.replace("redis://127.0.0.1:6379", redis.url)
            with Process(
                *("/bin/sh", "-ec", command), cwd=parlour, env={"PATH": path}
            ) as command_line:
                assert command_line.wait() == 0, command_line.output
            closing = "the house: Closing soon."
            sees(pages[0], "Ada: Is anybody here?", closing)
