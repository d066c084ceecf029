"""How published apps use Flask-Sockets, under every server that can run it."""

from __future__ import annotations

import json
import typing as t

import pytest

from ..process import until
from . import ways
from .clients import Kind, Refused, connect, end_of
from .ways import (
    FLASK_RUN,
    GEVENT_WAYS,
    GTHREAD,
    PYWSGI,
    TWO_WORKERS,
    WAYS,
    WORKER,
    WSRUN,
    Way,
    shared,
)


class Served(ways.Served):
    def json(self, path: str) -> t.Any:
        return json.loads(self.server.get(path).body)

    def ended(self, key: str) -> str:
        """What the handler said at its end."""
        return t.cast(
            str,
            until(
                lambda: self.json(f"/ended?key={key}")["what"],
                f"the end of a handler\n{self.server.log}",
            ),
        )


@pytest.fixture(scope="module", params=shared(GEVENT_WAYS, __name__))
def served(request: pytest.FixtureRequest) -> t.Iterator[Served]:
    with request.param.serve("patterns:app") as server:
        server.expected += [r"expected in debug mode"]
        yield Served(request.param, server)
        server.assert_log_is_clean()


@pytest.fixture(scope="module", params=shared([GTHREAD, FLASK_RUN], __name__))
def threaded(request: pytest.FixtureRequest) -> t.Iterator[Served]:
    with request.param.serve("patterns:app") as server:
        server.expected += [r"expected in debug mode"]
        yield Served(request.param, server)
        server.assert_log_is_clean()


def check_outbox(served: Served, kind: Kind, key: str) -> None:
    with (
        connect(kind, served.url(f"/receive?key={key}")) as one,
        connect(kind, served.url(f"/receive?key={key}-two")) as two,
        connect(kind, served.url("/submit")) as sender,
    ):
        until(lambda: served.json("/members")["members"] >= 2, "two members")
        sender.send("to all")
        assert one.receive() == two.receive() == "to all"
        one.close(4000)
        assert served.ended(key) == "closed with 4000"
        two.vanish()
        assert served.ended(f"{key}-two") == "closed with 1006"
        # Sending to those who are gone empties the registry.
        sender.send("to nobody")
        until(lambda: served.json("/members")["members"] == 0, "an empty registry")


def check_loops(served: Served, kind: Kind, key: str) -> None:
    with connect(kind, served.url(f"/continue?key={key}")) as client:
        client.send("hello")
        assert client.receive() == "HELLO"
        client.close()
    assert served.ended(key) == "left the loop"
    with connect(kind, served.url(f"/except?key={key}-except")) as client:
        client.send("hello")
        assert client.receive() == "hello"
        client.close()
    assert served.ended(f"{key}-except") == "ConnectionClosed"


def check_blueprints(served: Served, kind: Kind) -> None:
    assert served.json("/chat/hooks") == {"hooks": ["http"]}
    with connect(kind, served.url("/chat/hooks")) as client:
        assert client.receive() == "ws"


def check_hint(served: Served, kind: Kind) -> None:
    with connect(kind, served.url("/hint")) as client:
        assert client.receive() == "True"
        assert client.receive() == "/hint"


def check_proxy(served: Served, kind: Kind, when: str) -> None:
    headers = {"X-Forwarded-Host": "site.example", "X-Forwarded-Proto": "https"}
    url = served.url(f"/{when}/url")
    with connect(kind, url, headers=headers, origin="https://site.example") as client:
        assert client.receive() == f"https://site.example/{when}/url"
    # The address the proxy connects to isn't that of the site.
    origin = f"http://127.0.0.1:{served.server.port}"
    if served.way.is_stock:
        with connect(kind, url, headers=headers, origin=origin) as client:
            assert end_of(client) == (1008, "403 Forbidden")
    else:
        with pytest.raises(Refused) as caught:
            kind(url, headers=headers, origin=origin)
        assert caught.value.status == 403


def test_outbox_that_never_receives(served: Served, kind: Kind, key: str) -> None:
    """A handler that registers its WebSocket and only asks for 'closed' is sent to by
    others, ends when its client goes, and is dropped from the registry."""
    check_outbox(served, kind, key)


def test_reader_in_a_greenlet(served: Served, kind: Kind, key: str) -> None:
    """One greenlet receives, the handler sends from a queue and kills the reader."""
    with connect(kind, served.url(f"/feed?key={key}")) as client:
        for food in ("hay", "oats"):
            client.send(food)
            assert client.receive() == f"fed {food}"
        client.send("enough")
        assert end_of(client) == (1000, "")
    assert served.ended(key) == "reader dead"


def test_loops_end(served: Served, kind: Kind, key: str) -> None:
    """'if message is None: continue' in 'while not ws.closed' ends, and so does a loop
    in 'except WebSocketError'."""
    check_loops(served, kind, key)


def test_type_hint_of_gevent_websocket(served: Served, kind: Kind) -> None:
    """What a handler gets is an instance of gevent-websocket's class."""
    check_hint(served, kind)


def test_two_blueprints_of_one_name(served: Served, kind: Kind) -> None:
    """Each one's hooks run for its own routes, and only for those."""
    check_blueprints(served, kind)


@pytest.mark.parametrize("when", ["before", "after"])
def test_proxy_fix(served: Served, kind: Kind, when: str) -> None:
    """The host a proxy forwards is the one the Origin is compared with, whether
    ProxyFix was installed before the extension or after it."""
    check_proxy(served, kind, when)


def test_everyone_the_server_knows(served: Served, kind: Kind) -> None:
    """'ws.handler.server.clients' has every open WebSocket of gevent's WSGI server."""
    if not served.way.has_handler:
        pytest.skip("the server has no handler object")
    with (
        connect(kind, served.url("/everyone")) as one,
        connect(kind, served.url("/everyone")) as two,
    ):
        for client in (one, two):
            # Both are known once each has had an answer.
            client.send("here")
            assert client.receive() == "127.0.0.1 here"
        one.send("hello")
        while one.receive() != "127.0.0.1 hello":
            pass
        while two.receive() != "127.0.0.1 hello":
            pass


def test_those_who_left_arent_known(served: Served, kind: Kind) -> None:
    """A WebSocket that ended isn't in 'ws.handler.server.clients' any more."""
    if not served.way.has_handler or served.way.is_stock:
        pytest.skip("plain requests have no handler of ours")
    with connect(kind, served.url("/everyone")) as client:
        client.send("here")
        client.receive()
        assert served.json("/everyone")["clients"] >= 1
    until(lambda: served.json("/everyone")["clients"] == 0, "nobody")


def test_dead_member_is_the_senders_error(served: Served, kind: Kind) -> None:
    """Sending to somebody else's dead WebSocket is an error of the handler: 1011."""
    with connect(kind, served.url("/room")) as dead:
        assert dead.receive() == "joined"
        assert end_of(dead) == (1000, "")
    served.server.expected += [r"ConnectionClosed: .* 1000 \(OK\)$"]
    with connect(kind, served.url("/room/careless")) as client:
        client.send("go")
        assert end_of(client)[0] == 1011


def test_dead_member_can_be_caught(served: Served, kind: Kind) -> None:
    """'except WebSocketError' around the send lets the rest of the room hear."""
    with connect(kind, served.url("/room")) as dead:
        assert end_of(dead) == (1000, "")
    with connect(kind, served.url("/room/careful")) as client:
        client.send("still here")
        assert client.receive() == "still here"


def test_debug_in_code(served: Served, kind: Kind) -> None:
    """'app.debug = True' in code puts the error into the close reason. The commands of
    Flask set it themselves."""
    with connect(kind, served.url("/broken")) as client:
        client.send("go")
        code, reason = end_of(client)
    assert code == 1011
    if "wsrun" in served.way.name and not served.way.is_debug:
        assert reason == ""
    else:
        assert reason == "RuntimeError: expected in debug mode"


def test_patterns_in_threads(threaded: Served, kind: Kind, key: str) -> None:
    """What doesn't need gevent is the same where handlers run in threads."""
    check_loops(threaded, kind, key)
    check_hint(threaded, kind)
    check_blueprints(threaded, kind)
    check_proxy(threaded, kind, "before")
    check_proxy(threaded, kind, "after")


@pytest.mark.parametrize(
    "way", [WORKER, TWO_WORKERS, GTHREAD, FLASK_RUN, WSRUN], ids=lambda way: way.name
)
def test_app_factory(way: Way, kind: Kind) -> None:
    """A factory with arguments can be named in place of an app."""
    with way.serve("patterns:make('cfg')") as server:
        with connect(kind, server.url("/name")) as client:
            assert client.receive() == "cfg"
        server.assert_log_is_clean()


def test_every_way_is_covered() -> None:
    """Each server runs the patterns it can run."""
    assert PYWSGI in GEVENT_WAYS
    assert {way.name for way in WAYS if not way.is_gevent} == {
        "gunicorn-gthread",
        "flask-run",
        "flask-run-debug",
    }
