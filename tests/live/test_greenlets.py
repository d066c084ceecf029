"""Apps that spawn greenlets, under servers with and without gevent."""

from __future__ import annotations

import pytest

from .clients import WebsocketsClient
from .ways import FLASK_RUN, GTHREAD, PYWSGI, WSRUN, Way

WARNING = r"A greenlet of gevent never runs: <Greenlet .*broadcast.*'flask wsrun'"


@pytest.mark.parametrize("way", [FLASK_RUN, GTHREAD], ids=lambda way: way.name)
def test_a_server_with_threads_says_once_that_greenlets_never_run(way: Way) -> None:
    with way.serve("greenlets:app") as server:
        clients = [WebsocketsClient(server.url("/chat")) for _ in range(3)]
        for client in clients:
            client.send("hello")
        server.wait_for_log(WARNING)
        for client in clients:
            client.close()
        # The other handshakes have been looked at as well by then.
        last = WebsocketsClient(server.url("/chat"))
        last.send("hello")
        last.close()
        assert server.log.count("never runs") == 1


@pytest.mark.parametrize("way", [PYWSGI, WSRUN], ids=lambda way: way.name)
def test_greenlets_run_under_servers_with_gevent_and_nothing_is_said(way: Way) -> None:
    with way.serve("greenlets:app") as server:
        client = WebsocketsClient(server.url("/chat"))
        client.send("hello")
        assert client.receive() == "hello"
        client.close()
        server.assert_log_is_clean()
        assert "never runs" not in server.log
