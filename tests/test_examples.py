"""Each file of examples/ is run as it is, and its page is opened in a browser."""

from __future__ import annotations

import contextlib
import re
import typing as t
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser, Page, expect
from websockets import Subprotocol
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from .process import PATIENCE, Process, until
from .redis_server import RedisServer

EXAMPLES = Path(__file__).parents[1] / "examples"

# They share a browser, which another worker would have to start again.
pytestmark = pytest.mark.xdist_group(__name__)

expect.set_options(timeout=PATIENCE * 1000)


#: Ways to serve an example, by command.
SERVERS = {
    "wsrun": "flask --app {name} wsrun --port 0",
    "run": "flask --app {name} run --port 0",
    "gunicorn": "gunicorn -k flask_sockets.worker -b 127.0.0.1:0 --no-control-socket"
    " {name}:app",
}


@contextlib.contextmanager
def serve(
    name: str, server: str = "wsrun", env: t.Mapping[str, str] | None = None
) -> t.Iterator[str]:
    """Serve an example, and give its URL."""
    command = SERVERS[server].replace("{name}", name).split()
    with Process(*command, cwd=EXAMPLES, env=env) as process:
        port = process.wait_for(r"(?:Running on|Listening at:) http://[\d.]+:(\d+)")[1]
        yield f"http://127.0.0.1:{port}/"
        assert "Traceback" not in process.output


@contextlib.contextmanager
def tabs(browser: Browser, url: str, count: int) -> t.Iterator[list[Page]]:
    """Tabs of one browser, with the same cookies."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    errors: list[str] = []
    pages = []
    for _ in range(count):
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        pages.append(page)
    yield pages
    context.close()
    assert errors == []


def post(url: str, **form: str) -> None:
    data = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data) as response:
        assert response.status == 204


def until_subscribed(url: str, topic: str, page: Page) -> None:
    """Post until the page shows something, and then remove it."""
    items = page.locator("li")

    def is_shown() -> bool:
        post(f"{url}notify/{topic}", text="ping")
        return items.count() > 0

    until(is_shown, "a notification")
    page.evaluate("document.getElementById('list').replaceChildren()")


def test_every_example_has_a_test_and_is_short() -> None:
    """20 to 60 lines of code, and not many more with the page."""
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    tested = set(re.findall(r"serve\(\"(\w+)\"", Path(__file__).read_text()))
    assert names == tested | {"metrics", "tracing"}  # See test_monitoring.py.
    for path in EXAMPLES.glob("*.py"):
        code = re.sub(r'""".*?"""', '""""""', path.read_text(), flags=re.DOTALL)
        lines = [line for line in code.splitlines() if line.strip()]
        assert 15 <= len(lines) <= 60, path


@pytest.mark.parametrize("server", SERVERS)
def test_what_a_view_publishes_reaches_all_tabs_of_a_user_and_so_does_a_logout(
    browser: Browser, server: str
) -> None:
    with serve("notifications", server) as url, tabs(browser, url, 1) as (page,):
        page.fill("input", "ada")
        page.press("input", "Enter")
        other = page.context.new_page()
        other.goto(url)
        for tab in (page, other):
            until_subscribed(url, "ada", tab)
        for tab in (page, other):
            tab.evaluate("document.getElementById('list').replaceChildren()")
        post(f"{url}notify/bob", text="not for ada")
        post(f"{url}notify/ada", text="<b>Shipped</b>")
        for tab in (page, other):
            expect(tab.locator("li").last).to_have_text("<b>Shipped</b>")
        page.click("button")
        expect(other.locator("body")).to_have_text("You are logged out.")
        expect(page.locator("input")).to_be_visible()


def test_a_line_moves_and_late_comers_get_what_was_before(browser: Browser) -> None:
    def count(page: Page) -> int:
        points = page.locator("#line").get_attribute("points") or ""
        return len(points.split())

    with serve("dashboard") as url, tabs(browser, url, 1) as (page,):
        until(lambda: count(page) >= 8, "some points")
        before = page.locator("#line").get_attribute("points")
        late = page.context.new_page()
        late.goto(url)
        # It draws the first one, and then those that it gets at once.
        until(lambda: count(late) >= 8, "the points of before")
        line = page.locator("#line")
        until(lambda: line.get_attribute("points") != before, "another line")


def test_a_page_that_was_cut_off_misses_nothing(browser: Browser) -> None:
    def say(page: Page, text: str) -> None:
        page.fill("#text", text)
        page.press("#text", "Enter")

    with serve("feed_with_resume") as url, tabs(browser, url, 2) as (one, two):
        for page in (one, two):
            expect(page.locator("#state")).to_have_text("connected")
        say(one, "before")
        expect(two.locator("li")).to_have_text(["before"])
        two.click("#cut")
        expect(two.locator("#state")).to_have_text("cut off")
        for number in (1, 2):
            say(one, f"meanwhile {number}")
            expect(one.locator("li")).to_have_count(1 + number)
        two.click("#connect")
        entries = ["before", "meanwhile 1", "meanwhile 2"]
        expect(two.locator("li")).to_have_text(entries)
        say(two, "after")
        for page in (one, two):
            expect(page.locator("li")).to_have_text([*entries, "after"])


@pytest.mark.skipif(
    redis.VERSION < (6, 1), reason="Celery takes no redis-py from before 6.1."
)
def test_a_celery_task_reaches_the_page_that_has_started_it_and_no_other(
    browser: Browser, tmp_path: Path
) -> None:
    options = "-l INFO --concurrency 1 --pool prefork --without-gossip --without-mingle"
    command = f"celery -A celery_progress.celery worker {options}".split()
    with RedisServer(tmp_path) as server:
        env = {"REDIS_URL": server.url}
        with (
            serve("celery_progress", env=env) as url,
            Process(*command, cwd=EXAMPLES, env=env) as worker,
            tabs(browser, url, 2) as (one, two),
        ):
            worker.wait_for(" ready.")
            one.click("button")
            expect(one.locator("#state")).to_have_text("20 of 20")
            assert two.locator("#state").text_content() == ""
            two.click("button")
            expect(two.locator("#state")).to_have_text("20 of 20")
            assert "Traceback" not in worker.output


def token_of(url: str, user: str) -> str:
    data = urllib.parse.urlencode({"user": user}).encode()
    with urllib.request.urlopen(f"{url}login", data) as response:
        return str(response.read().decode())


def test_who_has_a_token_stays_until_they_log_out_anywhere(browser: Browser) -> None:
    with serve("tokens") as url, tabs(browser, url, 2) as pages:
        for page in pages:
            page.fill("input", "ada")
            page.press("input", "Enter")
            expect(page.locator("#state")).to_have_text("Hello ada.")
        pages[0].click("#renew")
        expect(pages[0].locator("#state")).to_have_text("You may stay a little longer.")
        pages[0].click("#logout")
        for page in pages:
            expect(page.locator("#state")).to_have_text("Closed: You are logged out.")


def test_a_token_lets_in_for_as_long_as_it_lasts() -> None:
    """Without one, or with one that was made up, nobody is let in."""
    with serve("tokens", env={"FLASK_JWT_ACCESS_TOKEN_EXPIRES": "2"}) as url:
        socket_url = f"{url.replace('http', 'ws')}clock"

        def connect_with(token: str) -> ClientConnection:
            offers = [Subprotocol("clock"), Subprotocol(f"token.{token}")]
            return connect(socket_url, subprotocols=offers)

        for token in ("", "rubbish"):
            with pytest.raises(InvalidStatus) as refused:
                connect_with(token)
            assert refused.value.response.status_code == 401

        def expire() -> tuple[int, str] | None:
            with contextlib.suppress(InvalidStatus):
                with connect_with(token_of(url, "ada")) as client:
                    assert client.subprotocol == "clock"
                    with pytest.raises(ConnectionClosed) as closed:
                        while True:
                            assert client.recv(PATIENCE) == "Hello ada."
                assert closed.value.rcvd is not None
                return closed.value.rcvd.code, closed.value.rcvd.reason
            return None  # The machine took longer than the token lasts.

        ending = until(expire, "the end of a token")
        assert ending == (4001, "Your token has expired.")
