"""The chat page of example_app, in a real browser, against `flask wsrun --reload`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from .live.ways import TWO_WORKERS
from .network import Network
from .process import PATIENCE, Process, free_port, port_of
from .redis_server import RedisServer

# They share a browser and a server, which another worker would have to start again.
pytestmark = pytest.mark.xdist_group(__name__)

EXAMPLE = Path(__file__).parents[1] / "example_app"

expect.set_options(timeout=PATIENCE * 1000)


class Server:
    """`flask wsrun --reload` on a copy of the example, which the test may edit."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        #: The same each time it is started, so that pages find it again.
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Start the server and wait until it runs."""
        command = ("flask", "--app", "example_app", "wsrun", "--reload")
        self._process = Process(
            *command, "--port", str(self.port), cwd=self.directory
        ).__enter__()
        assert port_of(self._process) == self.port

    def stop(self) -> None:
        """Stop it as Ctrl-C does, which reaches the whole group."""
        try:
            self._process.signal_group(signal.SIGINT)
            self._process.wait()
        finally:
            # As a rule nothing of it is left; a broken one must not outlive its test.
            self._process.__exit__()


def run_copy(directory: Path) -> Iterator[Server]:
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(EXAMPLE, directory / "example_app", ignore=ignore)
    server = Server(directory)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with empty rooms, which the test may edit, stop and start."""
    yield from run_copy(tmp_path)


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that leave it as it is."""
    yield from run_copy(tmp_path_factory.mktemp("shared"))


class Tab:
    """The page in a browser of its own, and what a person sees and does there."""

    def __init__(
        self, browser: Browser, url: str, name: str, network: Network | None = None
    ) -> None:
        self.name = name
        self.errors: list[str] = []
        self.requests: list[str] = []
        context = browser.new_context()
        context.set_default_timeout(PATIENCE * 1000)
        self.page: Page = context.new_page()
        if network is not None:
            self.page.route_web_socket("**/chat/*", network.connect)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
        self.page.fill("#name", name)
        self.page.press("#name", "Enter")
        self.wait_until("connected")

    def wait_until(self, state: str) -> None:
        locator = self.page.locator("#state")
        expect(locator).to_have_attribute("data-state", state)

    def say(self, text: str) -> None:
        self.page.fill("#text", text)
        self.page.press("#text", "Enter")

    def wait_for_texts(self, *texts: str) -> None:
        """Wait until the confirmed messages on the page are exactly these."""
        locator = self.page.locator("#messages .message:not(.pending) p")
        expect(locator).to_have_text(list(texts))

    def wait_for_pending(self, *texts: str) -> None:
        locator = self.page.locator("#messages .message.pending p")
        expect(locator).to_have_text(list(texts))

    def wait_for_people(self, *names: str) -> None:
        locator = self.page.locator("#people li span:nth-child(2)")
        expect(locator).to_have_text(list(names))

    def mark_page(self) -> None:
        self.page.evaluate("window.sameDocument = true")

    def is_marked(self) -> bool:
        return bool(self.page.evaluate("window.sameDocument === true"))


@pytest.fixture
def ada(browser: Browser, server: Server) -> Iterator[Tab]:
    tab = Tab(browser, server.url, "Ada")
    yield tab
    tab.page.context.close()
    assert tab.errors == []


@pytest.fixture
def grace(browser: Browser, server: Server) -> Iterator[Tab]:
    tab = Tab(browser, server.url, "Grace")
    yield tab
    tab.page.context.close()
    assert tab.errors == []


def test_two_tabs_chat_and_come_back_by_themselves_when_the_code_is_edited(
    server: Server, ada: Tab, grace: Tab
) -> None:
    """An edit is live in open pages, which reconnect and lose nothing they showed."""
    ada.wait_for_people("Ada", "Grace")
    grace.wait_for_people("Ada", "Grace")
    ada.say("Hello Grace")
    grace.wait_for_texts("Hello Grace")
    grace.say("Hello Ada")
    for tab in (ada, grace):
        tab.wait_for_texts("Hello Grace", "Hello Ada")
        tab.mark_page()

    source = server.directory / "example_app" / "__init__.py"
    code = source.read_text()
    new_greeting = "Edited while you watch."
    edited = re.sub(r'(?m)^GREETING = ".*"$', f'GREETING = "{new_greeting}"', code)
    assert edited != code
    source.write_text(edited)

    for tab in (ada, grace):
        expect(tab.page.locator("#greeting")).to_have_text(new_greeting)
        tab.wait_until("connected")
        tab.wait_for_people("Ada", "Grace")
    ada.say("Still there?")
    grace.wait_for_texts("Hello Grace", "Hello Ada", "Still there?")
    grace.say("Yes")
    for tab in (ada, grace):
        tab.wait_for_texts("Hello Grace", "Hello Ada", "Still there?", "Yes")
        assert tab.is_marked()


def test_what_is_typed_while_the_server_is_away_arrives_when_it_is_back(
    server: Server, ada: Tab, grace: Tab
) -> None:
    """Messages wait in the page, and are sent once, in order, when it reconnects."""
    server.stop()
    ada.wait_until("reconnecting")
    ada.say("One")
    ada.say("Two")
    ada.wait_for_pending("One", "Two")
    server.start()
    for tab in (ada, grace):
        tab.wait_until("connected")
    grace.wait_for_texts("One", "Two")
    ada.wait_for_texts("One", "Two")
    ada.wait_for_pending()


def test_a_page_that_was_cut_off_gets_what_it_missed_and_nothing_twice(
    browser: Browser, server: Server, ada: Tab
) -> None:
    """The page asks for what came after the last message it has seen."""
    network = Network()
    grace = Tab(browser, server.url, "Grace", network)
    ada.say("Before")
    grace.wait_for_texts("Before")
    network.cut()
    grace.wait_until("reconnecting")
    ada.wait_for_people("Ada")
    ada.say("Meanwhile")
    ada.wait_for_texts("Before", "Meanwhile")
    network.mend()
    grace.wait_for_texts("Before", "Meanwhile")
    ada.wait_for_people("Ada", "Grace")
    grace.page.context.close()
    assert grace.errors == []


def test_the_history_of_a_room_is_shown_to_whoever_comes_later(
    ada: Tab, grace: Tab
) -> None:
    """A message stays in its room, and is there for the next person who enters."""
    ada.page.click("[data-room=python]")
    ada.wait_until("connected")
    ada.say("Only in #python")
    ada.wait_for_texts("Only in #python")
    grace.wait_for_people("Grace")
    grace.wait_for_texts()
    grace.page.click("[data-room=python]")
    grace.wait_for_texts("Only in #python")
    assert grace.page.url.endswith("#python")
    ada.wait_for_people("Ada", "Grace")


def test_a_message_is_never_taken_for_html(ada: Tab, grace: Tab) -> None:
    """Markup in a message or a name appears as the characters that were typed."""
    ada.page.fill("#name", "<i>Ada</i>")
    ada.page.press("#name", "Enter")
    grace.wait_for_people("<i>Ada</i>", "Grace")
    ada.say("<img src=x onerror='window.hacked = true'>")
    grace.wait_for_texts("<img src=x onerror='window.hacked = true'>")
    assert grace.page.locator("#messages img, #messages i, #people i").count() == 0
    assert grace.page.evaluate("window.hacked") is None


def test_the_page_fetches_nothing_from_elsewhere(server: Server, ada: Tab) -> None:
    """The example works on a machine without a network."""
    elsewhere = [
        url for url in ada.requests if not url.startswith((server.url, "data:"))
    ]
    assert ada.requests[0] == server.url
    assert elsewhere == []


# ---- The same server without a browser ----


class Guest:
    """Somebody in a room without a page."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.welcome = self.receive()
        #: What there was to be read before the server said "ready".
        self.messages: list[Any] = []
        while (event := self.receive())["type"] != "ready":
            if event["type"] == "message":
                self.messages.append(event)

    @property
    def texts(self) -> list[str]:
        return [message["text"] for message in self.messages]

    def receive(self) -> Any:
        """The next event, out of its envelope if it has one."""
        event = json.loads(self.ws.recv(timeout=PATIENCE))
        return event["data"] if "topic" in event else event

    def receive_until(self, type: str) -> Any:
        while (event := self.receive())["type"] != type:
            pass
        return event

    def ask(self, message: str | bytes | dict[str, Any]) -> Any:
        """Send one message, and return the answer."""
        self.ws.send(json.dumps(message) if isinstance(message, dict) else message)
        return self.receive()


@contextlib.contextmanager
def enter(server: Server, room: str, **options: Any) -> Iterator[Guest]:
    url = f"ws://127.0.0.1:{server.port}/chat/{room}?name=Mallory"
    with connect(url, **options) as ws:
        yield Guest(ws)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "JSON object"),
        ("{}", "'type'"),
        ('{"type": ["message"]}', "'type'"),
        ('{"type": "rename"}', "must be text"),
        ('{"type": "rename", "name": 7}', "must be text"),
        ('{"type": "rename", "name": "  "}', "empty"),
        (f'{{"type": "rename", "name": "{"x" * 41}"}}', "at most 40"),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_bad_input_is_answered_and_the_connection_stays(
    shared_server: Server, message: str | bytes, reason: str
) -> None:
    """The server says what is wrong with a message, and the next good one works."""
    with enter(shared_server, "lobby") as guest:
        error = guest.ask(message)
        assert error["type"] == "error"
        assert reason in error["message"]
        assert guest.ask({"type": "rename", "name": "Eve"})["type"] == "renamed"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty"), ("x" * 2001, "at most 2000"), (7, "must be text")],
)
def test_a_message_that_is_refused_is_named_in_the_error(
    shared_server: Server, text: object, reason: str
) -> None:
    """The error carries the id of the message, so a page can give up sending it."""
    with enter(shared_server, "lobby") as guest:
        error = guest.ask({"type": "message", "id": "m-1", "text": text})
        assert error["type"] == "error"
        assert error["id"] == "m-1"
        assert reason in error["message"]


def test_half_a_surrogate_pair_does_not_poison_a_room(shared_server: Server) -> None:
    """What cannot be sent as UTF-8 never gets into the history."""
    with enter(shared_server, "random") as guest:
        half = '{"type": "message", "text": "\\ud83d"}'
        assert guest.ask(half)["text"] == "?"
    with enter(shared_server, "random") as guest:
        assert guest.texts == ["?"]


def test_a_room_remembers_its_last_fifty_messages(shared_server: Server) -> None:
    """A newcomer gets the latest messages, the oldest of them first."""
    with enter(shared_server, "python") as guest:
        for n in range(53):
            guest.ask({"type": "message", "text": str(n)})
    with enter(shared_server, "python") as guest:
        assert guest.texts == [str(n) for n in range(3, 53)]


def test_a_member_who_does_not_read_holds_up_nobody(server: Server) -> None:
    """Everybody else chats on, and the one who does not read is dropped with 1013."""
    # A small buffer of its own, so that what is not read soon waits in the server.
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.connect(("127.0.0.1", server.port))
    with (
        enter(server, "lobby", sock=sock, max_queue=1) as slow,
        enter(server, "lobby") as ada,
    ):
        # 24 KB each on the wire, and in all more than buffers and outbox hold.
        text = "\N{WAVING HAND SIGN}" * 2000
        for n in range(600):
            ada.ws.send(json.dumps({"type": "message", "id": str(n), "text": text}))
            assert ada.receive_until("message")["id"] == str(n)
        with contextlib.suppress(ConnectionClosed):
            while True:
                slow.receive()
        assert slow.ws.close_code == 1013
    with enter(server, "lobby") as ada:
        assert ada.welcome["people"] == ["Mallory"]


def test_echo_sends_text_back_as_text_and_binary_as_binary(
    shared_server: Server,
) -> None:
    """The smallest route of the example keeps the kind of every message."""
    with connect(f"ws://127.0.0.1:{shared_server.port}/echo") as ws:
        for message in ("text \N{WAVING HAND SIGN}", b"\x00\xff", "", b""):
            ws.send(message)
            assert ws.recv(timeout=PATIENCE) == message


@pytest.mark.parametrize(
    ("path", "status"),
    [("nowhere?name=Eve", 404), ("lobby", 400), (f"lobby?name={'x' * 41}", 400)],
)
def test_a_room_can_be_entered_if_it_exists_and_by_name(
    shared_server: Server, path: str, status: int
) -> None:
    """Everything else is answered by HTTP."""
    url = f"ws://127.0.0.1:{shared_server.port}/chat/{path}"
    with pytest.raises(InvalidStatus) as caught, connect(url):
        pass
    assert caught.value.response.status_code == status


def test_tabs_miss_nothing_while_the_workers_of_gunicorn_are_killed(
    browser: Browser, tmp_path: Path
) -> None:
    """One after the other, so that each tab loses its worker."""
    path = {"PYTHONPATH": str(EXAMPLE.parent)}
    with RedisServer(tmp_path) as redis:
        env = {"FLASK_SOCKETS_BROKER": redis.url, **path}
        with TWO_WORKERS.serve("example_app:create_app()", env) as server:
            url = server.url("/", "http")
            ada, bob = Tab(browser, url, "Ada"), Tab(browser, url, "Bob")
            workers = re.findall(r"Booting worker with pid: (\d+)", server.log)
            said: list[str] = []
            for speaker in (ada, bob):
                os.kill(int(workers.pop()), signal.SIGKILL)
                # The page keeps what is said until the room has it.
                for text in (f"{speaker.name} at once", f"{speaker.name} later"):
                    speaker.say(text)
                    said.append(text)
                    for tab in (ada, bob):
                        tab.wait_for_texts(*said)
            assert ada.errors == bob.errors == []
            assert "Messages may be missing" not in ada.page.inner_text("#messages")
            for tab in (ada, bob):
                tab.page.context.close()
