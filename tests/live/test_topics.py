"""Topics under real servers: everything that begins or ends outside of this process."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import typing as t

import pytest

from ..frames import CLOSE
from ..process import until
from .clients import Closed, Raw, Refused, WebsocketsClient, handshake
from .processes import Server
from .ways import (
    FLASK_RUN,
    GEVENT_WAYS,
    GTHREAD,
    PYWSGI,
    WAYS,
    WORKER,
    WSRUN,
    Way,
    shared,
)

#: How many clients come and go. For a soak, give another number.
VISITS = int(os.environ.get("TOPICS_VISITS", 300))


class Served:
    """A server of the app, and what a client asks of it."""

    def __init__(self, way: Way, server: Server) -> None:
        self.way = way
        self.server = server

    def connect(self, path: str) -> WebsocketsClient:
        return WebsocketsClient(self.server.url(path))

    def post(self, path: str, value: t.Any = None) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(value), headers)
            response = connection.getresponse()
            assert response.status == 200
            return response.read().decode()
        finally:
            connection.close()

    def publish(self, topic: str, *messages: str) -> None:
        self.post(f"/publish/{topic}", messages)

    def get(self, path: str) -> t.Any:
        return json.loads(self.server.get(path).body)

    def has_published_more_than(self, count: int) -> bool:
        """Whether the flood goes on."""
        return int(self.get("/flood")["published"]) > count

    def state(self) -> t.Any:
        return self.get("/state/room/a")

    def is_empty(self) -> bool:
        state = self.state()
        counts = [state[name] for name in ("sockets", "topics", "subscriptions")]
        return counts == [0, 0, 0] and state["present"] == {}


@pytest.fixture(scope="module", params=shared(WAYS, __name__))
def served(request: pytest.FixtureRequest) -> t.Iterator[Served]:
    with serve(request.param) as served:
        yield served


@contextlib.contextmanager
def serve(way: Way, expected: str | None = None) -> t.Iterator[Served]:
    with way.serve("topics:app") as server:
        if expected is not None:
            server.expected.append(expected)
        yield Served(way, server)
        server.assert_log_is_clean()
        # One process has nobody to share its topics with.
        assert "SOCKETS_BROKER" not in server.log


def test_what_a_view_publishes_reaches_all_that_are_subscribed(served: Served) -> None:
    clients = [served.connect("/subscribe/news") for _ in range(5)]
    messages = [str(n) for n in range(200)]
    served.publish("news", *messages)
    for client in clients:
        assert [client.receive() for _ in messages] == messages
        client.close()


def test_what_a_client_says_reaches_the_others(served: Served) -> None:
    one, two = served.connect("/subscribe/chat"), served.connect("/subscribe/chat")
    one.send("hello")
    assert two.receive() == "hello"
    two.send(b"\xff")
    assert one.receive() == b"\xff"
    one.close()
    two.close()


def test_a_client_that_was_cut_off_gets_what_it_missed(served: Served) -> None:
    path = "/subscribe/log?envelope=1"
    client = served.connect(path)
    served.publish("log", "1")
    position = json.loads(client.receive())["position"]
    client.vanish()
    served.publish("log", "2", "3")
    client = served.connect(f"{path}&since={position}")
    served.publish("log", "4")
    received = [json.loads(client.receive())["data"] for _ in range(3)]
    assert received == ["2", "3", "4"]
    client.close()


def test_a_refusal_is_http_before_the_handshake_and_1008_after_it(
    served: Served,
) -> None:
    if not served.way.is_stock:
        with pytest.raises(Refused) as refused:
            served.connect("/subscribe/members/nobody")
        assert refused.value.status == 403
    client = served.connect("/subscribe/members/nobody?accept=1")
    with pytest.raises(Closed) as closed:
        client.receive()
    assert closed.value.code == 1008
    client.close()


def test_subscriptions_and_presence_end_with_the_connection(served: Served) -> None:
    """However many come and go, and however they do, nothing is left."""
    for visit in range(VISITS):
        name = f"m{visit % 7}"
        client = served.connect(f"/subscribe/room/a?member={name}")
        if visit % 3 == 0:
            client.send("to nobody")
        if visit % 2:
            client.vanish()
        else:
            client.close()
    until(served.is_empty, "all is gone")


@pytest.mark.parametrize(
    "way", [PYWSGI, WSRUN, FLASK_RUN, GTHREAD], ids=lambda w: w.name
)
def test_the_end_of_a_handler_by_an_exception_ends_its_subscription(way: Way) -> None:
    with serve(way, expected="LookupError: expected") as served:
        client = served.connect("/subscribe/room/a?member=m&raise=1")
        with pytest.raises(Closed) as closed:
            client.receive()
        assert closed.value.code == 1011
        client.close()
        until(served.is_empty, "all is gone")
        assert served.state()["left"] == ["m"]


@pytest.mark.parametrize("way", [PYWSGI, FLASK_RUN], ids=lambda way: way.name)
def test_a_handler_that_returns_has_left_whatever_its_client_does(way: Way) -> None:
    """It needn't even answer the Close frame."""
    with serve(way) as served, Raw(served.server.port) as client:
        client.send(handshake("/subscribe/room/a?member=m&return=1"))
        client.read_until(b"\r\n\r\n")
        assert client.read_frame().opcode == CLOSE
        state = served.state()
        assert (state["subscriptions"], state["present"], state["left"]) == (
            0,
            {},
            ["m"],
        )


@pytest.mark.parametrize("way", [PYWSGI, WSRUN, WORKER], ids=lambda way: way.name)
def test_a_handler_whose_greenlet_is_killed_leaves_nothing(way: Way) -> None:
    with serve(way) as served:
        client = served.connect("/subscribe/room/a?member=m&hold=h")
        until(lambda: served.state()["present"], "it is there")
        served.post("/kill/h")
        with pytest.raises(Closed):
            client.receive()
        client.close()
        until(served.is_empty, "all is gone")
        until(lambda: served.state()["left"] == ["m"], "the signal")


@pytest.mark.parametrize(
    "way", [*GEVENT_WAYS, FLASK_RUN, GTHREAD], ids=lambda way: way.name
)
def test_a_publisher_that_never_pauses_starves_nobody(way: Way) -> None:
    """Requests are answered meanwhile, whether anybody is subscribed or not."""
    with serve(way) as served:
        for client in (None, served.connect("/subscribe/flooded")):
            served.post("/flood/flooded")
            before = served.get("/flood")["published"]
            until(
                functools.partial(served.has_published_more_than, before),
                "more publications",
            )
            assert not served.get("/flood")["is_over"]
            if client is not None:
                assert [json.loads(client.receive()) for _ in range(500)] == list(
                    range(1, 501)
                )
            served.post("/end-flood")
            if client is not None:
                client.close()


def test_a_forked_worker_inherits_nothing() -> None:
    preloaded = Way(
        "gunicorn-preload", (*WORKER.command[:-1], "--preload", WORKER.command[-1]),
        WORKER.ready, is_gevent=True,
    )  # fmt: skip
    for way, history in ((preloaded, []), (WORKER, ["before the fork"])):
        with serve(way) as served:
            client = served.connect("/subscribe/log?history=5")
            served.publish("log", "after")
            received: list[str | bytes] = []
            while not received or received[-1] != "after":
                received.append(client.receive())
            assert received == [*history, "after"]
            client.close()
