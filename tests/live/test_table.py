"""What happens when: every row of the design's table, under every server, as two
client libraries see it and as the handler sees it."""

from __future__ import annotations

import json
import typing as t

import pytest

from ..frames import close_frame, frame
from ..process import until
from . import ways
from .clients import (
    Client,
    Kind,
    Raw,
    Refused,
    WebsocketClientClient,
    connect,
    end_of,
    handshake,
)
from .ways import WAYS, shared


class Served(ways.Served):
    def seen(self, key: str, what: str) -> t.Any:
        """What the handler told, once it has told about ``what``."""

        def look() -> t.Any:
            seen = json.loads(self.server.get(f"/seen?key={key}").body)
            return seen if what in seen else None

        return until(look, f"{what!r} of {key}\n{self.server.log}")

    @property
    def beside(self) -> str:
        return "greenlet" if self.way.is_gevent else "thread"


@pytest.fixture(scope="module", params=shared(WAYS, __name__))
def served(request: pytest.FixtureRequest) -> t.Iterator[Served]:
    with request.param.serve("table:app") as server:
        server.expected += [r"\bexpected \w{32}"]
        yield Served(request.param, server)
        server.assert_log_is_clean()


def refusal(served: Served, kind: Kind, path: str, **options: t.Any) -> Refused:
    with pytest.raises(Refused) as caught:
        kind(served.url(path), **options)
    return caught.value


def assert_refused(
    served: Served, kind: Kind, path: str, status: int, name: str, **options: t.Any
) -> None:
    """Check for an HTTP answer, or what stock gevent-websocket makes of it."""
    if served.way.is_stock:
        with connect(kind, served.url(path), **options) as client:
            assert end_of(client) == (1008, f"{status} {name}")
    else:
        assert refusal(served, kind, path, **options).status == status


# Plain HTTP


def test_plain_get_on_a_websocket_route_is_told_to_upgrade(served: Served) -> None:
    """Without a handshake, a WebSocket route answers 426 and says why."""
    response = served.server.get("/echo")
    assert response.status == 426
    assert response.headers["Upgrade"] == "websocket"
    assert "This URL is a WebSocket endpoint" in response.body


def test_http_and_websocket_share_a_path(served: Served, kind: Kind) -> None:
    """A view and a WebSocket route of one path and one endpoint are both served."""
    assert served.server.get("/both").body == "HTTP"
    with connect(kind, served.url("/both")) as client:
        assert client.receive() == "WebSocket"


def test_url_for_gives_a_url_one_can_connect_to(served: Served, kind: Kind) -> None:
    """Inside of an HTTP view url_for() makes a complete ws:// URL."""
    url = served.server.get("/url").body
    assert url == served.url("/echo")
    with connect(kind, url) as client:
        client.send("hello")
        assert client.receive() == "hello"


# The handshake


def test_websocket_to_an_http_route_is_refused(served: Served, kind: Kind) -> None:
    """A path that only has a view answers a handshake with 400."""
    assert_refused(served, kind, "/", 400, "Bad Request")


def test_websocket_to_nowhere_is_refused(served: Served, kind: Kind) -> None:
    """A path that has nothing answers a handshake with 404."""
    assert_refused(served, kind, "/nowhere", 404, "Not Found")


def test_page_of_another_site_is_refused(served: Served, kind: Kind) -> None:
    """A cross-origin handshake gets 403, and the log names the setting."""
    before = served.server.log.count("SOCKETS_ALLOWED_ORIGINS")
    evil = "http://evil.example"
    assert_refused(served, kind, "/echo", 403, "Forbidden", origin=evil)
    until(
        lambda: served.server.log.count("SOCKETS_ALLOWED_ORIGINS") == before + 1,
        "the setting in the log",
    )


def test_page_of_the_same_site_may_connect(served: Served, kind: Kind) -> None:
    """An Origin with the host and port of the server passes."""
    origin = f"http://127.0.0.1:{served.server.port}"
    with connect(kind, served.url("/greet"), origin=origin) as client:
        assert client.receive() == "hello"


def test_page_of_another_port_is_refused(served: Served, kind: Kind) -> None:
    """The port counts in the comparison of origins."""
    origin = f"http://127.0.0.1:{served.server.port ^ 1}"
    assert_refused(served, kind, "/echo", 403, "Forbidden", origin=origin)


def test_configured_origins_may_connect(served: Served, kind: Kind) -> None:
    """Origins and patterns of SOCKETS_ALLOWED_ORIGINS pass, others don't."""
    for origin in ("https://a.friend.example", "http://localhost:9999"):
        with connect(kind, served.url("/other/echo"), origin=origin) as client:
            client.send("hello")
            assert client.receive() == "hello"
    for origin in ("https://evil.example", "http://localhost:9998"):
        assert_refused(served, kind, "/other/echo", 403, "Forbidden", origin=origin)


MALFORMED: list[tuple[str, dict[str, t.Any], int]] = [
    ("no version", {"Sec_WebSocket_Version": None}, 426),
    ("version 12", {"Sec_WebSocket_Version": "12"}, 426),
    ("version x", {"Sec_WebSocket_Version": "x"}, 426),
    ("no key", {"Sec_WebSocket_Key": None}, 400),
    ("short key", {"Sec_WebSocket_Key": "c2hvcnQ="}, 400),
    ("odd key", {"Sec_WebSocket_Key": "!"}, 400),
    ("no base64", {"Sec_WebSocket_Key": "???????????????????????="}, 400),
    ("POST", {"method": "POST"}, 405),
    ("HTTP/1.0", {"protocol": "HTTP/1.0"}, 400),
    ("body", {"Content_Length": "2"}, 400),
    ("no upgrade", {"Upgrade": None}, 426),
    ("other upgrade", {"Upgrade": "h2c"}, 426),
    ("no connection", {"Connection": None}, 426),
    ("other connection", {"Connection": "keep-alive"}, 426),
]


@pytest.mark.parametrize(
    ("request_", "status"),
    [(options, status) for _, options, status in MALFORMED],
    ids=[name for name, _, _ in MALFORMED],
)
def test_malformed_handshake_gets_the_right_status(
    served: Served, request_: dict[str, t.Any], status: int
) -> None:
    """Every kind of bad handshake is answered with HTTP, and nothing breaks."""
    with Raw(served.server.port) as raw:
        body = b"ab" if "Content_Length" in request_ else b""
        raw.send(handshake("/echo", **request_) + body)
        head = raw.read_until(b"\r\n\r\n").decode().lower()
        got = int(head.split()[1])
    if served.way.is_stock:
        # It answers some of them itself, and lets others pass.
        served.server.expected += [r"binascii\.Error|Incorrect padding|base64"]
        # And what it says there is no WSGI.
        served.server.expected += [r"failed with (Error|TypeError)", "memoryview: a "]
        return
    assert got == status
    if status == 426:
        assert "sec-websocket-version: 13\r\n" in head
        assert "upgrade: websocket\r\n" in head


def test_headers_of_the_handshake_are_case_insensitive(served: Served) -> None:
    """Browsers send 'Connection: keep-alive, Upgrade', and any case goes."""
    with Raw(served.server.port) as raw:
        raw.connect("/greet", Connection="keep-alive, UPGRADE", Upgrade="WebSocket")
        assert raw.read_frame() == (1, b"hello")


# An answer in place of the handshake


def test_before_request_may_abort(served: Served, kind: Kind) -> None:
    """abort(401) in a hook is real HTTP, with the app's own error page."""
    if served.way.is_stock:
        assert_refused(served, kind, "/echo?before=abort", 401, "Unauthorized")
        return
    refused = refusal(served, kind, "/echo?before=abort")
    assert (refused.status, refused.body) == (401, "Who are you?")


def test_before_request_may_redirect(served: Served) -> None:
    """A redirect in a hook is a real redirect."""
    with Raw(served.server.port) as raw:
        raw.send(handshake("/echo?before=redirect"))
        status, headers, _ = raw.read_response()
        if served.way.is_stock:
            assert raw.read_frame().close in [
                (1008, "302 Found"),
                (1008, "303 See Other"),
            ]
        else:
            # Flask 3.2 redirects with 303.
            assert (status, headers["location"]) in [
                (302, "/elsewhere"),
                (303, "/elsewhere"),
            ]


def test_before_request_may_answer(served: Served, kind: Kind) -> None:
    """A response from a hook is sent in place of the handshake."""
    if served.way.is_stock:
        with connect(kind, served.url("/echo?before=response")) as client:
            assert end_of(client) == (1000, "")
        return
    refused = refusal(served, kind, "/echo?before=response")
    assert (refused.status, refused.body) == (200, "no WebSocket today")


def test_handler_may_abort_before_it_touches_the_socket(
    served: Served, kind: Kind
) -> None:
    """abort(403) on the handler's first line is real HTTP."""
    assert_refused(served, kind, "/members-only", 403, "Forbidden")


def test_handler_may_return_a_response(served: Served, kind: Kind) -> None:
    """A handler that returns a response before any use of the socket refuses."""
    assert_refused(served, kind, "/say-no", 503, "Service Unavailable")


def test_what_a_handler_returns_later_is_ignored(served: Served, kind: Kind) -> None:
    """After the handshake there is nobody to read a response."""
    with connect(kind, served.url("/late-return")) as client:
        assert end_of(client) == (1000, "")


def test_handler_that_raises_at_once_is_a_server_error(
    served: Served, kind: Kind, key: str
) -> None:
    """An error before the handshake is answered with 500, and logged."""
    path = f"/raise-at-once?key={key}"
    if served.way.is_debug:
        # Flask lets errors pass then, for a debugger. gevent's server logs them.
        served.server.expected += ["failed with RuntimeError$"]
    if served.way.is_stock:
        with connect(kind, served.url(path)) as client:
            assert end_of(client)[0] == 1011
    else:
        assert refusal(served, kind, path).status == 500
    served.server.wait_for_log(f"^RuntimeError: expected {key}")


# Errors after the handshake


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/raise", "RuntimeError: expected {key}"),
        ("/raise-key-error", "KeyError: 'expected {key}'"),
    ],
)
def test_handler_that_raises_closes_with_1011(
    served: Served, kind: Kind, key: str, path: str, text: str
) -> None:
    """An error closes the connection with 1011, is signalled, and is logged once. Only
    debug mode tells the client what it was."""
    text = text.format(key=key)
    with connect(kind, served.url(f"{path}?key={key}")) as client:
        client.send("go")
        assert end_of(client) == (1011, text if served.way.is_debug else "")
    assert key in served.seen(key, "signalled")["signalled"]
    served.server.wait_for_log(rf"^{text}$")
    assert served.server.log.count(f"\n{text}") == 1


def test_http_exception_after_the_handshake_closes_with_1008(
    served: Served, kind: Kind
) -> None:
    """abort(403) after the handshake puts the status in the close reason."""
    with connect(kind, served.url("/abort")) as client:
        client.send("go")
        assert end_of(client) == (1008, "403 Forbidden")


def test_error_of_another_connection_is_an_error(
    served: Served, kind: Kind, key: str
) -> None:
    """Only the end of the handler's own connection is quiet."""
    with connect(kind, served.url(f"/dead?key={key}")) as client:
        client.send("go")
        assert end_of(client)[0] == 1011
    served.server.wait_for_log(f"ConnectionClosed: .*expected {key}")


def test_error_in_a_teardown_function_doesnt_reach_the_wire(
    served: Served, key: str
) -> None:
    """When a teardown function raises, the client sees a Close frame and the end."""
    with Raw(served.server.port) as raw:
        raw.connect(f"/teardown?key={key}")
        assert raw.read_frame() == (1, b"hello")
        assert raw.read_frame()[0] == 8
        raw.send(close_frame(1000))
        assert raw.read_all() == b""
    served.server.wait_for_log(f"expected {key}")


# The end


def test_client_closes(served: Served, kind: Kind, key: str) -> None:
    """receive() returns None, and the handler knows the client's code and reason."""
    with connect(kind, served.url(f"/wait?key={key}")) as client:
        client.send("one")
        client.send(b"\x02")
        client.close(4001, "enough")
    seen = served.seen(key, "code")
    assert seen == {
        "started": True,
        "received": ["one", "02"],
        "last": None,
        "code": 4001,
        "reason": "enough",
        "closed": True,
        "left": [],
        "send_raised": "ConnectionClosed",
    }


def test_client_vanishes(served: Served, kind: Kind, key: str) -> None:
    """Without a Close frame, the handler sees the same with 1006."""
    with connect(kind, served.url(f"/wait?key={key}")) as client:
        client.send("one")
        client.vanish()
    seen = served.seen(key, "code")
    assert (seen["received"], seen["last"]) == (["one"], None)
    assert (seen["code"], seen["closed"]) == (1006, True)
    assert seen["send_raised"] == "ConnectionClosed"


def test_client_closes_without_a_code(served: Served, key: str) -> None:
    """An empty Close frame is 1005 to the handler, and is answered with one."""
    with Raw(served.server.port) as raw:
        raw.connect(f"/wait?key={key}")
        raw.send(frame(8))
        assert raw.read_all() == frame(8, masked=False)
    assert served.seen(key, "code")["code"] == 1005


@pytest.mark.parametrize("path", ["/spin", "/flood"])
def test_handler_that_never_receives_sees_the_close(
    served: Served, kind: Kind, key: str, path: str
) -> None:
    """A handler that only asks for 'closed', or only sends, ends when the client
    closes."""
    with connect(kind, served.url(f"{path}?key={key}")) as client:
        if path == "/flood":
            client.receive()
        client.close(4002)
    if path == "/spin":
        assert served.seen(key, "code")["code"] == 4002
    else:
        assert served.seen(key, "error_code")["error_code"] == 4002


@pytest.mark.parametrize("path", ["/spin", "/flood"])
def test_handler_that_never_receives_sees_the_client_vanish(
    served: Served, kind: Kind, key: str, path: str
) -> None:
    """The same for a client that is just gone."""
    with connect(kind, served.url(f"{path}?key={key}")) as client:
        if path == "/flood":
            client.receive()
        client.vanish()
    if path == "/spin":
        assert served.seen(key, "code")["code"] == 1006
    else:
        assert served.seen(key, "error_code")["error_code"] == 1006


def test_handler_returns(served: Served, kind: Kind) -> None:
    """The connection is accepted, if it wasn't, and closed with 1000."""
    with connect(kind, served.url("/return")) as client:
        assert end_of(client) == (1000, "")
    with connect(kind, served.url("/greet")) as client:
        assert client.receive() == "hello"
        assert end_of(client) == (1000, "")


def test_handler_accepts_once(served: Served, kind: Kind) -> None:
    """The first accept() is right under every server, a second one is an error."""
    with connect(kind, served.url("/accept")) as client:
        assert "accepted already" in str(client.receive())


def test_handler_closes(served: Served, kind: Kind, key: str) -> None:
    """The client sees the code and the reason the handler gave."""
    with connect(kind, served.url(f"/close/4321/so%20long?key={key}")) as client:
        assert end_of(client) == (4321, "so long")
    seen = served.seen(key, "code")
    assert (seen["code"], seen["reason"], seen["closed"]) == (4321, "so long", True)
    assert seen["send_raised"] == "ConnectionClosed"


def test_client_that_answers_no_ping_is_given_up(served: Served, key: str) -> None:
    """After the ping timeout the wire says 1011 and the handler sees 1006."""
    with Raw(served.server.port) as raw:
        raw.connect(f"/other/wait?key={key}")
        assert raw.read_frame()[0] == 9
        opcode, payload = raw.read_frame()
        assert (opcode, payload[:2]) == (8, b"\x03\xf3")
        assert raw.read_all() == b""
    assert served.seen(key, "code")["code"] == 1006


def test_client_that_answers_pings_is_kept(
    served: Served, kind: Kind, key: str
) -> None:
    """Client libraries answer the pings of the keepalive by themselves."""
    with (
        connect(kind, served.url("/other/echo")) as client,
        Raw(served.server.port) as raw,
    ):
        raw.connect("/other/echo")
        assert raw.read_frame()[0] == 9
        while raw.read_frame()[0] != 8:  # Some pings later.
            pass
        if kind is not WebsocketClientClient:
            # The other one answers only while it receives.
            client.send("still here")
            assert client.receive() == "still here"


# Frames


BAD_FRAMES = {
    "unmasked": (frame(1, b"hello", masked=False), 1002),
    "unknown opcode": (frame(3, b"hello"), 1002),
    "reserved bit": (b"\xc1\x80\0\0\0\0", 1002),
    "long ping": (frame(9, b"x" * 126), 1002),
    "fragmented ping": (frame(9, b"x", fin=False), 1002),
    "continuation of nothing": (frame(0, b"x"), 1002),
    "bad close code": (close_frame(1005), 1002),
    "close code 999": (close_frame(999), 1002),
    "one byte of a close code": (frame(8, b"\x03"), 1002),
    "no UTF-8": (frame(1, b"\xff\xfe"), 1007),
    "no UTF-8 in two fragments": (
        frame(1, b"\xe2\x82", fin=False) + frame(0, b"\x28"),
        1007,
    ),
    "no UTF-8 in a close reason": (frame(8, b"\x03\xe8\xff"), 1007),
    "too big": (frame(2, b"x" * 100_001), 1009),
    "far too big": (b"\x82\xff\0\0\1\0\0\0\0\0" + b"mask" + b"x" * 100, 1009),
    "too big in fragments": (
        frame(1, b"x" * 60_000, fin=False) + frame(0, b"x" * 60_000),
        1009,
    ),
}


@pytest.mark.parametrize(("data", "code"), BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_bad_frame_closes_with_the_right_code(
    served: Served, key: str, data: bytes, code: int
) -> None:
    """What violates the protocol, or the limit, is answered with a Close frame, and
    then with nothing at all. The message in front of it arrives."""
    with Raw(served.server.port) as raw:
        raw.connect(f"/wait?key={key}")
        raw.send(frame(1, b"good") + data)
        opcode, payload = raw.read_frame()
        assert (opcode, int.from_bytes(payload[:2], "big")) == (8, code)
        assert raw.read_all() == b""
    seen = served.seen(key, "code")
    assert seen["received"] == ["good"]


def test_pings_are_answered_between_fragments(served: Served) -> None:
    """A ping inside of a fragmented message is answered, and the message is whole."""
    with Raw(served.server.port) as raw:
        raw.connect("/echo")
        raw.send(frame(1, b"one ", fin=False) + frame(9, b"ping") + frame(0, b"two"))
        assert raw.read_frame() == (10, b"ping")
        assert raw.read_frame() == (1, b"one two")


def test_messages_of_all_sizes_come_back(served: Served, kind: Kind) -> None:
    """Text and binary, at the edges of the three ways to write a length."""
    with connect(kind, served.url("/echo")) as client:
        for size in (0, 1, 125, 126, 127, 65535, 65536, 100_000):
            client.send(b"\xff" * size)
            assert client.receive() == b"\xff" * size
        client.send("ä€😀" * 100)
        assert client.receive() == "ä€😀" * 100


def test_senders_dont_interleave(served: Served, kind: Kind) -> None:
    """Four greenlets or threads that send large messages at once send whole ones."""
    with connect(kind, served.url(f"/crowd?beside={served.beside}")) as client:
        messages = []
        while (message := client.receive()) != "done":
            messages.append(message)
        client.send("thanks")
    assert sorted(messages) == [
        letter * 70_000 for letter in (b"a", b"b", b"c", b"d") for _ in range(20)
    ]


def test_second_receiver_is_refused(served: Served, kind: Kind, key: str) -> None:
    """Two that receive at once would each get some of the messages."""
    path = f"/two-receivers?beside={served.beside}&key={key}"
    with connect(kind, served.url(path)) as client:
        assert client.receive() == "refused"
        client.send("go")
        (error,) = served.seen(key, "errors")["errors"]
    assert "is receiving from this WebSocket already" in error


# Sessions and headers


def cookie_of(client: Client) -> dict[str, str]:
    return {"Cookie": client.headers["set-cookie"].partition(";")[0]}


def test_session_travels_with_the_handshake(served: Served, kind: Kind) -> None:
    """What is set before the handshake is in the session of the next request."""
    with connect(kind, served.url("/session/early?color=blue")) as client:
        if served.way.is_stock:
            assert "set-cookie" not in client.headers
            return
        cookie = cookie_of(client)
        # It is there while the WebSocket is open.
        response = served.server.get("/session", cookie)
    assert json.loads(response.body) == {"color": "blue"}


def test_headers_of_hooks_travel_with_the_handshake(served: Served, kind: Kind) -> None:
    """So do those of after_request functions, and those given to accept()."""
    if served.way.is_stock:
        pytest.skip("gevent-websocket has sent the headers before")
    with connect(kind, served.url("/session/early?color=red")) as client:
        assert client.headers["x-after"] == "/session/early"
        assert client.headers["x-from-accept"] == "yes"


def test_session_changed_too_late_is_warned_of(served: Served, kind: Kind) -> None:
    """A cookie can't follow the handshake: the log says so, once per connection."""
    warning = "WebSocket '/session/late' changed the session after the handshake"
    before = served.server.log.count(warning)
    with connect(kind, served.url("/session/late")) as client:
        assert end_of(client) == (1000, "")
    until(lambda: served.server.log.count(warning) > before, warning)
    assert served.server.log.count(warning) == before + 1


def test_session_of_the_browser_is_there(served: Served, kind: Kind) -> None:
    """The handler sees the session that a view has set."""
    if served.way.is_stock:
        pytest.skip("the session is set by a WebSocket")
    with connect(kind, served.url("/session/early?color=green")) as client:
        cookie = cookie_of(client)
    assert_refused(served, kind, "/members-only", 403, "Forbidden", headers=cookie)


# Subprotocols


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["good", "best"], "best"),
        (["good", "unknown"], "good"),
        (["unknown"], None),
        (None, None),
    ],
)
def test_best_subprotocol_is_chosen(
    served: Served, kind: Kind, offered: list[str] | None, chosen: str | None
) -> None:
    """The first of the route's subprotocols that the client offers."""
    if served.way.is_stock:
        pytest.skip("gevent-websocket answers the handshake without the route")
    if offered and chosen is None and kind is WebsocketClientClient:
        pytest.skip("websocket-client insists on one of those it offers")
    with connect(kind, served.url("/subprotocols"), subprotocols=offered) as client:
        assert client.receive() == repr(chosen)
        assert client.subprotocol == chosen


def test_handler_may_choose_the_subprotocol(served: Served, kind: Kind) -> None:
    """accept(subprotocol=...) has the last word."""
    if served.way.is_stock:
        pytest.skip("gevent-websocket answers the handshake without the route")
    with connect(
        kind, served.url("/subprotocols/by-hand"), subprotocols=["one", "two"]
    ) as client:
        assert client.receive() == "'two'"
        assert client.subprotocol == "two"
