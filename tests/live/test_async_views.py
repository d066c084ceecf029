"""Views with ``async def``, on every server that serves requests at the same time."""

from __future__ import annotations

import threading
import typing as t
from collections.abc import Iterator

import pytest

from . import ways
from .processes import Response, Server

pytest.importorskip("asgiref")


@pytest.fixture(
    scope="module",
    params=ways.shared(
        [way for way in ways.WAYS if way.name != "pywsgi-unpatched"], __name__
    ),
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with t.cast(ways.Way, request.param).serve("coroutines:app") as server:
        yield server
        server.assert_log_is_clean()


def test_async_views_wait_at_the_same_time(server: Server) -> None:
    """Each has an event loop, and its own request and 'g'."""
    answers: dict[str, Response] = {}

    def ask(name: str) -> None:
        answers[name] = server.get(f"/meet/5?name={name}")

    names = [f"name-{number}" for number in range(5)]
    threads = [threading.Thread(target=ask, args=(name,)) for name in names]

    for thread in threads:
        thread.start()

    for thread in threads:
        thread.join(60)

    assert {name: answers[name].body for name in names} == {
        name: f"{name} {name}" for name in names
    }


def test_exceptions_of_async_views_reach_async_handlers(server: Server) -> None:
    """They come back from wherever the coroutine ran."""
    response = server.get("/fail")
    assert (response.status, response.body) == (418, "a mistake in a coroutine")
