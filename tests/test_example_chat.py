"""The example's chat, tested as an app of yours would be."""

from __future__ import annotations

import typing as t

import pytest

from example_app import create_app
from flask_sockets import HandshakeRejected, SocketTestClient


@pytest.fixture
def client() -> SocketTestClient:
    return t.cast(SocketTestClient, create_app({"TESTING": True}).test_client())


def test_two_people_hear_each_other(client: SocketTestClient) -> None:
    """One joins, the other joins, and what one says reaches both."""
    with client.websocket("/chat/lobby") as ada, client.websocket("/chat/lobby") as bob:
        ada.send_json({"type": "join", "name": "Ada"})
        assert ada.receive_json()["type"] == "welcome"
        bob.send_json({"type": "join", "name": "Bob"})
        assert bob.receive_json()["people"] == ["Ada", "Bob"]
        assert ada.receive_json()["type"] == "joined"
        ada.send_json({"type": "message", "text": "Hi, Bob"})
        assert bob.receive_json()["text"] == "Hi, Bob"
        assert ada.receive_json()["name"] == "Ada"


def test_the_others_see_who_has_gone(client: SocketTestClient) -> None:
    """When the connection ends, however it does."""
    with client.websocket("/chat/lobby") as ada:
        ada.send_json({"type": "join", "name": "Ada"})
        assert ada.receive_json()["type"] == "welcome"
        with client.websocket("/chat/lobby") as bob:
            bob.send_json({"type": "join", "name": "Bob"})
            assert ada.receive_json()["type"] == "joined"
        left = {"type": "left", "name": "Bob", "people": ["Ada"]}
        assert ada.receive_json() == left


def test_a_room_that_is_not_there_is_a_404(client: SocketTestClient) -> None:
    """Only rooms that exist can be entered."""
    with pytest.raises(HandshakeRejected) as caught, client.websocket("/chat/cellar"):
        pass
    assert caught.value.response.status_code == 404
    assert "no room named" in caught.value.response.text


def test_a_bad_message_is_answered(client: SocketTestClient) -> None:
    """Its sender learns what is wrong, and stays connected."""
    with client.websocket("/chat/lobby") as ws:
        ws.send("hello?")
        assert ws.receive_json()["message"] == "That message is not JSON."
        ws.send_json({"type": "message", "text": "hello?"})
        assert ws.receive_json()["message"].startswith("Join the room")
