"""Apps that broadcast to 'ws.handler.server.clients' lose nobody."""

from __future__ import annotations

import concurrent.futures
import json
import typing as t

import pytest

from ..frames import close_frame
from ..process import until
from . import ways
from .clients import Raw, Refused, WebsocketsClient, connect
from .ways import WAYS, shared

STAYING = 5
GOING = 5
#: How often each of those that go comes back.
VISITS = 8


class Served(ways.Served):
    def connect(self, path: str) -> WebsocketsClient:
        return WebsocketsClient(self.url(path))

    def client_count(self) -> int:
        return t.cast(int, json.loads(self.server.get("/count").body)["clients"])


@pytest.fixture(scope="module", params=shared(WAYS, __name__))
def served(request: pytest.FixtureRequest) -> t.Iterator[Served]:
    with request.param.serve("broadcast:app") as server:
        yield Served(request.param, server)
        server.assert_log_is_clean()


def come_and_go(served: Served, number: int) -> None:
    for visit in range(VISITS):
        client = served.connect("/chat")
        client.send(f"visit {visit} of {number}")
        if visit % 3 == 0:
            client.vanish()
        else:
            client.close()


def receive_until(client: WebsocketsClient, message: str) -> None:
    while client.receive() != message:
        pass


def test_those_who_stay_survive_those_who_come_and_go(served: Served) -> None:
    """However many clients come, send, close and vanish meanwhile, each of those that
    stay gets what every other of them sends, to the end."""
    staying = [served.connect("/chat") for _ in range(STAYING)]
    with concurrent.futures.ThreadPoolExecutor(GOING) as pool:
        going = [pool.submit(come_and_go, served, number) for number in range(GOING)]
        round_ = 0
        while not all(visits.done() for visits in going):
            for number, client in enumerate(staying):
                client.send(f"round {round_} from {number}")
                receive_until(client, f"round {round_} from {number}")
            round_ += 1
        for visits in going:
            visits.result()
    for number, sender in enumerate(staying):
        sender.send(f"farewell of {number}")
        for client in staying:
            receive_until(client, f"farewell of {number}")
    for client in staying:
        client.close()


def test_sender_can_leave_itself_out(served: Served) -> None:
    """'client.ws is ws' and 'client.ws == ws' find the handler's own WebSocket."""
    url = served.server.url("/others")
    with (
        connect(WebsocketsClient, url) as one,
        connect(WebsocketsClient, url) as two,
    ):
        one.send("from one")
        assert two.receive() == "from one"
        two.send("from two")
        assert one.receive() == "from two"


def test_client_is_there_from_the_first_line_of_its_handler(served: Served) -> None:
    """Before anything is accepted."""
    with connect(WebsocketsClient, served.server.url("/first-line")) as client:
        assert client.receive() == "[False, True, True, 1]"


def test_client_that_was_refused_is_gone(served: Served) -> None:
    """It was there while its handler ran."""
    if served.way.is_stock:
        pytest.skip("the server answers the handshake before it asks the app")
    with pytest.raises(Refused) as caught:
        served.connect("/first-line?refuse")
    assert "[False, True, True, 1]" in caught.value.body
    until(lambda: served.client_count() == 0, "nobody is left")


def test_closing_client_is_gone_at_once(served: Served) -> None:
    """Though its handler still has something to do."""
    until(lambda: served.client_count() == 0, "nobody is left")
    with Raw(served.server.port) as raw:
        raw.connect("/closing")
        assert served.client_count() == 1
        raw.send(close_frame(1000))
        assert raw.read_frame()[0] == 8
        assert served.client_count() == 0
