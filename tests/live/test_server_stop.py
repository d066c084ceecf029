"""The server stops: clients are told, processes end, nobody complains."""

from __future__ import annotations

import contextlib
import signal
import typing as t

import pytest

from ..frames import frame
from ..process import until
from .clients import (
    Client,
    Closed,
    Raw,
    WebsocketClientClient,
    WebsocketsClient,
    connect,
)
from .processes import Server
from .ways import (
    FLASK_RUN,
    GEVENT,
    GEVENT_PYWSGI,
    GTHREAD,
    PYWSGI,
    TWO_WORKERS,
    UNPATCHED,
    WORKER,
    WSRUN,
    Way,
)

STOPPING = Way("pywsgi-stopping", ("serve.py", "stopping", "{app}"), PYWSGI.ready)

#: Those that tell their clients, and the signals by which they are stopped.
TELLING = [
    *((way, signal.SIGTERM) for way in (WORKER, TWO_WORKERS, WSRUN, STOPPING)),
    *((way, signal.SIGTERM) for way in (GTHREAD, GEVENT, GEVENT_PYWSGI)),
    *(
        (way, signal.SIGINT)
        for way in (WORKER, TWO_WORKERS, WSRUN, PYWSGI, UNPATCHED, FLASK_RUN)
    ),
]

#: Those that end without a word: the process is killed by the signal.
CUTTING = [(PYWSGI, signal.SIGTERM), (FLASK_RUN, signal.SIGTERM)]


def name_of(value: t.Any) -> str:
    return value.name if isinstance(value, (Way, signal.Signals)) else repr(value)


def end_of(client: Client) -> int:
    assert client.receive() == "welcome"
    with pytest.raises(Closed) as caught:
        client.receive()
    return caught.value.code


def stop(server: Server, number: signal.Signals) -> None:
    if number is signal.SIGINT:
        server.signal_group(signal.SIGINT)
    else:
        server.signal(number)


@pytest.mark.parametrize(("way", "number"), TELLING, ids=name_of)
def test_clients_are_told_that_the_server_stops(
    way: Way, number: signal.Signals
) -> None:
    """Who receives, and who never does, both are closed with 1012; then the processes
    end by themselves."""
    with way.serve("bare:app") as server:
        with (
            connect(WebsocketsClient, server.url("/wait")) as one,
            connect(WebsocketClientClient, server.url("/outbox")) as two,
        ):
            server.wait_for_log(rf"(?s)(app loaded.*){{{way.processes}}}")
            server.wait_for_log(r"(?s)waiting.*waiting")
            # Werkzeug closes the connection it is just starting a thread for when
            # Ctrl-C comes. Let that be another one.
            assert server.get("/").status == 200
            stop(server, number)
            assert (end_of(one), end_of(two)) == (1012, 1012), server.log
        server.wait()
        if way in (PYWSGI, UNPATCHED):
            # The script has nothing to catch Ctrl-C with.
            server.expected += ["KeyboardInterrupt"]
        server.assert_log_is_clean()


@pytest.mark.parametrize(
    "way", [WORKER, TWO_WORKERS, GTHREAD, GEVENT, GEVENT_PYWSGI], ids=name_of
)
def test_clients_are_told_that_gunicorn_reloads(way: Way) -> None:
    """SIGHUP replaces the workers. Clients are closed with 1012, on which those that
    reconnect by themselves do, and find the new workers."""
    with way.serve("bare:app") as server:
        with connect(WebsocketsClient, server.url("/wait")) as client:
            server.wait_for_log("waiting")
            server.signal(signal.SIGHUP)
            assert end_of(client) == 1012

        def is_served() -> bool:
            url = server.url("/echo")
            # It may be one that is still to be replaced.
            with contextlib.suppress(Closed), connect(WebsocketsClient, url) as client:
                client.send("again")
                answer: object = client.receive()
                return answer == "again"
            return False

        until(is_served, "a new worker")
        server.assert_log_is_clean()


@pytest.mark.parametrize(("way", "number"), CUTTING, ids=name_of)
def test_server_without_a_word_ends_too(way: Way, number: signal.Signals) -> None:
    """Where nobody tells us that the server stops, clients are cut."""
    with way.serve("bare:app") as server:
        with Raw(server.port) as raw:
            raw.connect("/wait")
            assert raw.read_frame() == (1, b"welcome")
            server.wait_for_log("waiting")
            stop(server, number)
            assert raw.read_all() == b""
        server.wait()
        server.assert_log_is_clean()


@pytest.mark.parametrize("way", [WORKER], ids=name_of)
def test_client_that_doesnt_answer_doesnt_hold_the_server(way: Way) -> None:
    """A client that reads its Close frame and never answers is cut."""
    with way.serve("bare:app") as server:
        with Raw(server.port) as raw:
            raw.connect("/wait")
            assert raw.read_frame() == (1, b"welcome")
            server.wait_for_log("waiting")
            stop(server, signal.SIGTERM)
            assert raw.read_frame() == (8, b"\x03\xf4server restarting")
            server.wait()
        server.expected += [r"Worker graceful timeout"]
        server.assert_log_is_clean()


@pytest.mark.parametrize("way", [WORKER, WSRUN], ids=name_of)
def test_idle_connection_doesnt_hold_the_server(way: Way) -> None:
    """A browser keeps connections open between two requests. They are no reason to
    wait for the grace period to pass."""
    with way.serve("bare:app") as server:
        with Raw(server.port) as raw:
            raw.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert raw.read_response()[0] == 200
            stop(server, signal.SIGTERM)
            server.wait()
        # That it does not say "Worker graceful timeout" is the point.
        server.assert_log_is_clean()


@pytest.mark.parametrize("way", [WORKER], ids=name_of)
def test_message_under_way_is_answered_first(way: Way) -> None:
    """What was sent before the stop comes back before the Close frame."""
    with way.serve("bare:app") as server:
        with Raw(server.port) as raw:
            raw.connect("/echo")
            raw.send(frame(1, b"hello"))
            assert raw.read_frame() == (1, b"hello")
            stop(server, signal.SIGTERM)
            assert raw.read_frame() == (8, b"\x03\xf4server restarting")
        server.wait()
        server.assert_log_is_clean()
