"""What the guide shows about WebSockets, sessions, blueprints, topics and testing."""

from __future__ import annotations

import shlex
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from flask import Flask
from itsdangerous import TimestampSigner

from flask_sockets import ConnectionClosed, HandshakeRejected, Sockets, SocketTestClient

from ..documents import Document
from ..process import PATIENCE, Process, until
from ..redis_server import RedisServer


def client_of(
    path: str, only: str | None = None
) -> tuple[SocketTestClient, dict[str, t.Any]]:
    """A test client for the app that a page builds, and the names of its module.

    :param only: the caption of the only block that belongs to this app.
    """
    app = Flask("app")
    app.secret_key = "test"
    names = Document(path).run_python({"app": app, "sockets": Sockets(app)}, only)
    return t.cast(SocketTestClient, names["app"].test_client()), names


def log_in(client: SocketTestClient, user: str) -> None:
    with client.session_transaction() as session:
        session["user"] = user


# Blueprints and sessions


def test_the_blueprint_asks_for_a_login() -> None:
    """And greets who has one."""
    client, _ = client_of("docs/blueprints.md")
    with pytest.raises(HandshakeRejected) as caught, client.websocket("/chat/lobby"):
        pass
    assert caught.value.response.status_code == 401
    log_in(client, "Ada")
    with client.websocket("/chat/lobby") as ws:
        assert ws.receive() == "Welcome to lobby, Ada."


def test_the_session_decides_who_may_connect() -> None:
    """A change in time travels with the answer, and so do the headers."""
    client, _ = client_of("docs/sessions.md")
    with pytest.raises(HandshakeRejected) as caught, client.websocket("/news"):
        pass
    assert caught.value.response.status_code == 401
    assert client.post("/login", data={"user": "Ada"}).text == "Welcome!"
    with client.websocket("/news") as ws:
        assert ws.receive() == "Hello Ada"
        assert ws.response.headers["X-News"] == "2"
    with client.session_transaction() as session:
        assert session["seen"]


# Handlers that live for hours


def test_a_view_and_a_function_have_a_context_for_each_message() -> None:
    client, _ = client_of("docs/long-lived.md")
    with pytest.raises(HandshakeRejected) as caught, client.websocket("/rooms/lobby"):
        pass
    assert caught.value.response.status_code == 401
    log_in(client, "ada")
    with client.websocket("/rooms/lobby") as one:
        with client.websocket("/rooms/lobby") as two:
            two.send("hello")
            assert one.receive() == two.receive() == "ada: hello"
        assert one.receive() == "ada has left."
    with client.websocket("/shout") as ws:
        ws.send("hello")
        assert ws.receive() == "HELLO"


class OldSigner(TimestampSigner):
    """Signs as it would have done some seconds ago."""

    age = 0

    def get_timestamp(self) -> int:
        return super().get_timestamp() - self.age


def test_a_guest_stays_until_the_ticket_expires() -> None:
    client, names = client_of("docs/long-lived.md")
    signer = OldSigner(names["app"].secret_key)
    ticket = signer.sign("guest").decode()
    with client.websocket(f"/guests?ticket={ticket}") as ws:
        ws.send("hello")
        assert ws.receive() == "hello"
    signer.age = 59

    def stay() -> ConnectionClosed | None:
        ticket = signer.sign("guest").decode()
        try:
            with client.websocket(f"/guests?ticket={ticket}", timeout=PATIENCE) as ws:
                ws.receive()
        except HandshakeRejected:
            return None  # A busy machine was too slow for what is left of the ticket.
        except ConnectionClosed as error:
            return error
        raise AssertionError("Nobody sends anything.")

    error = until(stay, "the end of a ticket")
    assert (error.code, error.reason) == (4001, "Your ticket has expired.")


def test_a_route_has_limits_of_its_own() -> None:
    client, _ = client_of("docs/long-lived.md")
    with client.websocket("/shy"), client.websocket("/shy") as ws:
        with pytest.raises(HandshakeRejected) as caught, client.websocket("/shy"):
            pass
        assert caught.value.response.status_code == 429
        ws.send("hello")
        assert ws.receive() == "hello"


# Sending to many


def test_what_is_published_reaches_all_that_are_subscribed() -> None:
    """And who comes later gets what was said before."""
    client, names = client_of("docs/topics.md")
    with pytest.raises(HandshakeRejected) as caught, client.websocket("/chat/lobby"):
        pass
    assert caught.value.response.status_code == 401
    log_in(client, "ada")
    with client.websocket("/chat/lobby") as one, client.websocket("/chat/lobby") as two:
        one.send("hello")
        for member in one, two:
            assert [member.receive() for _ in range(2)] == ["ada has come.", "hello"]
        assert names["sockets"].presence("chat/lobby") == {"ada": None}
        client.post("/announce")
        assert one.receive_json()["text"] == "We close at ten."
    with client.websocket("/chat/lobby") as three:
        assert [three.receive() for _ in range(2)] == ["ada has come.", "hello"]


def test_the_commands_reach_the_broker(tmp_path: Path) -> None:
    """Of the app at the top of the page, on a Redis."""
    page = Document("docs/topics.md")
    setting = "app.config.from_prefixed_env()\nsockets ="
    app = page.find("def may_enter").replace("sockets =", setting)
    (tmp_path / "app.py").write_text(app)
    with RedisServer(tmp_path) as redis:
        env = {"FLASK_SOCKETS_BROKER": redis.url}
        commands = page.find("sockets listen").splitlines()
        publish, listen, *others = map(shlex.split, commands)
        with Process(*listen, cwd=tmp_path, env=env) as listening:
            listening.wait_for("^Listening to 'chat/lobby'")
            with Process(*publish, cwd=tmp_path, env=env) as process:
                assert process.wait() == 0
            listening.wait_for("^Good morning$")
            for arguments in others:
                with Process(*arguments, cwd=tmp_path, env=env) as process:
                    assert process.wait() == 0, process.output


# Testing


def test_the_tests_pass(tmp_path: Path) -> None:
    """As a file of its own, by pytest, with nothing else around."""
    text = Document("docs/testing.md").captioned("test_app.py")
    (tmp_path / "test_app.py").write_text(text)
    arguments = [sys.executable, "-m", "pytest", "-q", "-W", "error", "test_app.py"]
    result = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)
    assert "2 passed" in result.stdout, result.stdout
