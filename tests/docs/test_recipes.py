"""What the recipes promise, each with the library that it is about."""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import re
import subprocess
import sys
import threading
import typing as t
from pathlib import Path
from urllib.request import urlopen

import pytest
from sqlalchemy import event
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_upstream
from websockets.typing import Origin

from flask_sockets import ConnectionClosed, HandshakeRejected, Sockets, SocketTestClient

from ..conftest import Served
from ..documents import Document
from ..process import PATIENCE, Process, free_port, program, until
from .test_guide import client_of

if t.TYPE_CHECKING:
    from flask import Flask


def refused(client: SocketTestClient, path: str, **options: t.Any) -> int:
    """The status with which a handshake is answered."""
    with pytest.raises(HandshakeRejected) as caught, client.websocket(path, **options):
        pass
    return caught.value.response.status_code


def test_flask_login_lets_users_in_and_out() -> None:
    client, names = client_of("docs/recipes/flask-login.md")
    assert refused(client, "/news") == 401
    client.post("/login", data={"name": "ada", "password": "secret"})
    with client.websocket("/news") as ws:
        with names["app"].app_context():
            names["sockets"].publish("user/ada", "Good morning.")
        assert ws.receive() == "Good morning."
        client.post("/logout")
        with pytest.raises(ConnectionClosed, match="4001"):
            ws.receive()
    assert refused(client, "/news") == 401


def test_flask_sqlalchemy_has_its_connection_back_after_each_message() -> None:
    client, names = client_of("docs/recipes/flask-sqlalchemy.md")
    returned = []
    with names["app"].app_context():
        engine = names["db"].engine
    event.listen(engine, "checkin", lambda *args: returned.append(args))
    with client.websocket("/notes") as ws:
        for number in range(3):
            before = len(returned)
            ws.send(f"note {number}")
            assert ws.receive_json() == {"count": number + 1}
            # The commit gives one back, too; the query after it has taken another.
            until(lambda: len(returned) == before + 2, "the connection is back")  # noqa: B023


def test_flask_session_keeps_what_a_handler_changes() -> None:
    client, _ = client_of("docs/recipes/flask-session.md")
    with client.websocket("/count") as ws:
        for _ in range(3):
            ws.send("one more")
    assert client.get("/seen").text == "3"


def test_a_token_comes_in_the_subprotocol_and_does_not_go_back() -> None:
    client, names = client_of("docs/recipes/jwt.md")
    serializer = names["URLSafeTimedSerializer"](names["app"].secret_key)
    token = serializer.dumps("ada")
    assert refused(client, "/feed", subprotocols=["feed.v1"]) == 401
    assert refused(client, "/feed", subprotocols=["feed.v1", "token.x"]) == 401
    with client.websocket("/feed", subprotocols=["feed.v1", f"token.{token}"]) as ws:
        assert ws.subprotocol == "feed.v1"
        names["sockets"].publish("user/ada", "news")
        assert ws.receive() == "news"


def test_a_front_end_on_another_host_is_let_in() -> None:
    """Nobody else is."""
    client, names = client_of("docs/recipes/other-host.md")
    names["sockets"].add_url_rule("/api/feed", "feed", lambda ws: ws.send("hello"))
    url = "https://api.example.com"
    options: dict[str, t.Any] = {"base_url": url, "origin": "https://app.example.com"}
    with client.websocket("/api/feed", **options) as ws:
        assert ws.receive() == "hello"
    options["origin"] = "https://example.com"
    assert refused(client, "/api/feed", **options) == 403


def test_htmx_gets_fragments_that_were_rendered_once() -> None:
    """And a page that comes back begins with an empty list."""
    client, _ = client_of("docs/recipes/htmx.md")
    assert 'ws-connect="ws://localhost/board"' in client.get("/").text
    note = '<ul id="notes" hx-swap-oob="beforeend"><li>&lt;b&gt;</li></ul>'
    with client.websocket("/board") as one, client.websocket("/board") as two:
        one.send("no JSON")
        one.send_json({"note": "<b>", "HEADERS": {"HX-Request": "true"}})
        for ws in one, two:
            assert [ws.receive(), ws.receive()] == ['<ul id="notes"></ul>', note]
    with client.websocket("/board") as three:
        assert [three.receive(), three.receive()] == ['<ul id="notes"></ul>', note]


@pytest.fixture
def upstream() -> t.Iterator[tuple[str, list[int | None]]]:
    """Answers each message, ends after "bye", and tells how calls have ended."""
    ended: list[int | None] = []

    def answer(connection: ServerConnection) -> None:
        for message in connection:
            connection.send(f"heard {message!r}")
            if message == "bye":
                break
        connection.close()
        ended.append(connection.close_code)

    with serve_upstream(answer, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}", ended
        server.shutdown()
        thread.join()


def test_a_bridge_passes_on_both_ways_and_ends_with_either_side(
    upstream: tuple[str, list[int | None]], serve: t.Callable[[Flask], Served]
) -> None:
    url, ended = upstream
    _, names = client_of("docs/recipes/bridge.md")
    names["app"].config["UPSTREAM"] = url
    served = serve(names["app"])
    with served.connect("/call") as caller:
        caller.send("hello")
        assert caller.recv(PATIENCE) == "heard 'hello'"
        caller.send(b"\x01")
        assert caller.recv(PATIENCE) == "heard b'\\x01'"
    until(lambda: len(ended) == 1, "the caller's end reaches the upstream")

    with served.connect("/call") as caller:
        caller.send("bye")
        assert list(caller) == ["heard 'bye'"]
        assert caller.close_code == 1000


#: What Twilio sends in a call, as it documents it: https://www.twilio.com/docs/voice/
#: media-streams/websocket-messages
STREAM = "MZ18ad3ab5a668481ce02b83e7395059f0"
CALL: list[dict[str, t.Any]] = [
    {"event": "connected", "protocol": "Call", "version": "1.0.0"},
    {
        "event": "start",
        "sequenceNumber": "1",
        "start": {
            "accountSid": "AC123",
            "streamSid": STREAM,
            "callSid": "CA123",
            "tracks": ["inbound"],
            "mediaFormat": {
                "encoding": "audio/x-mulaw",
                "sampleRate": 8000,
                "channels": 1,
            },
            "customParameters": {},
        },
        "streamSid": STREAM,
    },
    {
        "event": "media",
        "sequenceNumber": "2",
        "media": {
            "track": "inbound",
            "chunk": "1",
            "timestamp": "5",
            "payload": base64.b64encode(bytes(range(160))).decode(),
        },
        "streamSid": STREAM,
    },
    {
        "event": "mark",
        "sequenceNumber": "3",
        "streamSid": STREAM,
        "mark": {"name": "x"},
    },
    {
        "event": "stop",
        "sequenceNumber": "4",
        "streamSid": STREAM,
        "stop": {"accountSid": "AC123", "callSid": "CA123"},
    },
]


def test_a_call_by_twilio_is_answered_if_it_is_signed(
    serve: t.Callable[[Flask], Served],
) -> None:
    _, names = client_of("docs/recipes/bridge.md")
    names["app"].config["TWILIO_AUTH_TOKEN"] = "12345"
    served = serve(names["app"])
    with urlopen(f"http://{served.host}/voice", data=b"") as response:
        (url,) = re.findall(r'<Stream url="(.*?)"/>', response.read().decode())
    assert url == f"ws://{served.host}/phone"

    def signature(token: bytes) -> dict[str, str]:
        digest = hmac.digest(token, url.encode(), "sha1")
        return {"X-Twilio-Signature": base64.b64encode(digest).decode()}

    for headers in ({}, signature(b"another")):
        with pytest.raises(InvalidStatus, match="403"):
            served.connect("/phone", additional_headers=headers)
    headers = signature(b"12345")
    with served.connect("/phone", additional_headers=headers) as twilio:
        for message in CALL:
            twilio.send(json.dumps(message))
        answers = [json.loads(answer) for answer in twilio]
    payload = CALL[2]["media"]["payload"]
    media = {"payload": payload}
    assert answers == [{"event": "media", "streamSid": STREAM, "media": media}]
    assert twilio.close_code == 1000


def test_flask_smorest_describes_all_but_the_websockets() -> None:
    """Whose messages its schemas check."""
    client, names = client_of("docs/recipes/apis.md", only="flask-smorest")
    assert list(names["api"].spec.to_dict()["paths"]) == ["/pets/"]
    assert client.get("/pets/").json == [{"name": "Rex"}]
    with client.websocket("/pets/live/") as ws:
        ws.send_json({"name": "Tom"})
        assert ws.receive_json() == {"added": "Tom"}
        ws.send_json({"age": 3})
        assert set(ws.receive_json()["errors"]) == {"name", "age"}


def test_vite_passes_websockets_on(
    app: Flask,
    sockets: Sockets,
    serve: t.Callable[[Flask], Served],
    tmp_path: Path,
) -> None:
    """With 'changeOrigin' they are refused until the page's origin is allowed."""
    vite = program("vite")
    sockets.add_url_rule("/api/feed", "feed", lambda ws: ws.send("hello"))
    backend = serve(app).host
    config = Document("docs/recipes/other-host.md").captioned("vite.config.js")
    config = config.replace("127.0.0.1:5000", backend)
    changing = config.replace("ws: true", "ws: true, changeOrigin: true")
    assert config != changing

    with contextlib.ExitStack() as stack:
        fronts = []
        for name, text in ("plain", config), ("changing", changing):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "vite.config.js").write_text(text)
            port = free_port()
            options = ["--host", "127.0.0.1", "--strictPort", "--port", str(port)]
            front = stack.enter_context(Process(vite, *options, cwd=folder))
            fronts.append((front, port))

        def says_hello(port: int) -> bool:
            url, origin = f"ws://127.0.0.1:{port}/api/feed", f"http://127.0.0.1:{port}"
            with connect(url, origin=Origin(origin)) as ws:
                return ws.recv(PATIENCE) == "hello"

        for front, port in fronts:
            front.wait_until_listening(port)
        (_, plain), (_, changed) = fronts
        assert says_hello(plain)
        with pytest.raises(InvalidStatus, match="403"):
            says_hello(changed)
        app.config["SOCKETS_ALLOWED_ORIGINS"] = f"http://127.0.0.1:{changed}"
        assert says_hello(changed)


def test_an_upload_arrives_piece_by_piece() -> None:
    client, names = client_of("docs/recipes/upload.md")
    kept = []
    names["keep"] = lambda name, file: kept.append(file.read())
    with client.websocket("/upload") as ws:
        ws.send_json({"name": "x", "size": 5})
        for piece, received in ((b"abc", 3), (b"de", 5)):
            ws.send(piece)
            assert ws.receive_json() == {"received": received}
        assert list(ws) == []
    assert kept == [b"abcde"]
    with client.websocket("/upload") as ws:
        ws.send_json({"name": "x", "size": 1e12})
        with pytest.raises(ConnectionClosed, match="4413"):
            ws.receive()


def test_a_shared_text_loses_nothing_unnoticed() -> None:
    client, _ = client_of("docs/recipes/shared-text.md")
    with client.websocket("/text") as one, client.websocket("/text") as two:
        for ws in one, two:
            assert ws.receive_json() == {"version": 0, "text": ""}
        one.send_json({"version": 0, "text": "Dear all"})
        for ws in one, two:
            assert ws.receive_json() == {"version": 1, "text": "Dear all"}
        two.send_json({"version": 0, "text": "Hello"})
        assert two.receive_json() == {"version": 1, "text": "Dear all"}
    with client.websocket("/yjs/x") as one, client.websocket("/yjs/x") as two:
        two.send(b"\x01")
        assert one.receive() == b"\x01"


def test_the_tests_with_fixtures_pass(tmp_path: Path) -> None:
    Document("docs/recipes/pytest.md").write_files(tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "3 passed" in result.stdout, result.stdout


def test_an_app_under_a_prefix_keeps_its_websockets(
    serve: t.Callable[[Flask], Served],
) -> None:
    _, names = client_of("docs/recipes/prefix.md")
    served = serve(names["site"])
    with served.connect("/chat/echo") as ws:
        ws.send("hello")
        assert ws.recv(PATIENCE) == "hello"
    page = names["site"].test_client().get("/chat/")
    assert page.text == "ws://localhost/chat/echo"
