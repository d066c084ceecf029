"""The example's chat, tested as an app of yours would be."""

from __future__ import annotations

import typing as t

import pytest

from example_app import create_app
from flask_sockets import HandshakeRejected, SocketTestClient, SocketTestSession


@pytest.fixture
def client() -> SocketTestClient:
    return t.cast(SocketTestClient, create_app({"TESTING": True}).test_client())


def receive(ws: SocketTestSession, type: str) -> t.Any:
    """Receive up to an event of a type, and return it without its envelope."""
    while True:
        event = ws.receive_json()
        event = event.get("data", event)
        if event["type"] == type:
            return event


def test_two_people_hear_each_other(client: SocketTestClient) -> None:
    """One comes, the other comes, and what one says reaches both."""
    with client.websocket("/chat/lobby?name=Ada") as ada:
        assert receive(ada, "welcome")["people"] == ["Ada"]
        with client.websocket("/chat/lobby?name=Bob") as bob:
            assert receive(bob, "welcome")["people"] == ["Ada", "Bob"]
            while receive(ada, "joined")["name"] != "Bob":
                pass  # Ada has joined before.
            ada.send_json({"type": "message", "text": "Hi, Bob"})
            assert receive(bob, "message")["text"] == "Hi, Bob"
            assert receive(ada, "message")["name"] == "Ada"


def test_the_others_see_who_has_gone(client: SocketTestClient) -> None:
    """When the connection ends, however it does."""
    with client.websocket("/chat/lobby?name=Ada") as ada:
        with client.websocket("/chat/lobby?name=Bob"):
            pass
        left = receive(ada, "left")
        assert (left["name"], left["people"]) == ("Bob", ["Ada"])


def test_who_was_cut_off_gets_what_was_missed(client: SocketTestClient) -> None:
    """Nothing is missing, and nothing comes twice."""
    with client.websocket("/chat/lobby?name=Ada") as ada:
        ada.send_json({"type": "message", "text": "1"})
        event = ada.receive_json()
        while "position" not in event:
            event = ada.receive_json()
        with client.websocket("/chat/lobby?name=Bob") as bob:
            receive(bob, "message")
            bob.send_json({"type": "message", "text": "2"})
            receive(bob, "message")
    path = f"/chat/lobby?name=Ada&since={event['position']}"
    with client.websocket(path) as ada:
        assert receive(ada, "welcome")["recovered"] is True
        assert receive(ada, "message")["text"] == "2"
        assert receive(ada, "ready")


def test_a_room_that_is_not_there_is_a_404(client: SocketTestClient) -> None:
    """Only rooms that exist can be entered."""
    path = "/chat/cellar?name=Ada"
    with pytest.raises(HandshakeRejected) as caught, client.websocket(path):
        pass
    assert caught.value.response.status_code == 404
    assert "no room named" in caught.value.response.text


def test_a_bad_message_is_answered(client: SocketTestClient) -> None:
    """Its sender learns what is wrong, and stays connected."""
    with client.websocket("/chat/lobby?name=Ada") as ws:
        ws.send("hello?")
        assert receive(ws, "error")["message"] == "That message is not JSON."
        ws.send_json({"type": "wave"})
        assert "must be 'message' or 'rename'" in receive(ws, "error")["message"]
