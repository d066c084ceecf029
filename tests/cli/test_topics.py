"""``flask sockets``: what reaches a server that runs already, and what a person is told
who can't reach it.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import sys
import typing as t
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import FlaskGroup

from flask_sockets import Sockets
from flask_sockets.topics.publication import Kind, Publication
from flask_sockets.topics.redis import RedisBroker

from ..process import Process, free_port, until
from ..redis_server import RedisServer
from ..topics.contract import PLAIN, Listener, publish, subscribe

# They share a Redis.
pytestmark = pytest.mark.xdist_group(__name__)

#: The app as the processes of the commands load it.
APP = """\
import os
from flask import Flask
from flask_sockets import Sockets

app = Flask(__name__)
app.config["SOCKETS_BROKER"] = os.environ["SOCKETS_BROKER"]
sockets = Sockets(app)
sockets.topic("log", history=100)
"""

COMMANDS = [
    ["publish", "news", "hello"],
    ["listen", "news"],
    ["presence", "room"],
    ["stats"],
]


def make_app(broker: str) -> Flask:
    app = Flask("shop")
    app.config.update(SOCKETS_BROKER=broker, SOCKETS_MAX_OUTBOX=20)
    sockets = Sockets(app)
    sockets.topic("room", presence=True)
    return app


def run(app: Flask, *arguments: str, stdin: bytes = b"") -> Result:
    """Run one of the commands for an app, in this process."""
    group = FlaskGroup(create_app=lambda: app, set_debug_flag=False)
    return CliRunner().invoke(group, ["sockets", *arguments], input=stdin)


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command line sets a variable, and reads files of the directory."""
    monkeypatch.setenv("FLASK_RUN_FROM_CLI", "false")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def server(redis: RedisServer) -> t.Iterator[tuple[RedisBroker, Listener]]:
    """What a process that serves has of the broker."""
    broker, listener = RedisBroker(redis.url), Listener()
    broker.start(listener)
    yield broker, listener
    broker.close()
    redis.client().flushall()


def listen(directory: Path, redis: RedisServer, *arguments: str) -> Process:
    """The command that listens as a process, or a shell's command line with '-c'."""
    (directory / "app.py").write_text(APP)
    command = ["/bin/sh"] if arguments[0] == "-c" else ["flask", "sockets", "listen"]
    env = {"SOCKETS_BROKER": redis.url}
    return Process(*command, *arguments, cwd=directory, env=env)


@pytest.mark.parametrize(
    ("arguments", "stdin", "kind", "payload"),
    [
        (["hello"], b"", Kind.TEXT, b"hello"),
        ([], b"two\nlines\n", Kind.TEXT, b"two\nlines"),
        (["-"], "grüß\r\n".encode(), Kind.TEXT, "grüß".encode()),
        (["--json", '{"a": 1}'], b"", Kind.JSON, b'{"a": 1}'),
        (["--json"], b"[1,\n2]\n", Kind.JSON, b"[1, 2]"),
        (["--binary"], b"\xff\0\n", Kind.BINARY, b"\xff\0\n"),
        (["--binary", "hi"], b"", Kind.BINARY, b"hi"),
    ],
)
def test_a_message_is_published_from_the_command_line_or_standard_input(
    redis: RedisServer,
    server: tuple[RedisBroker, Listener],
    arguments: list[str],
    stdin: bytes,
    kind: Kind,
    payload: bytes,
) -> None:
    broker, listener = server
    subscribe(broker, "news")
    result = run(make_app(redis.url), "publish", "news", *arguments, stdin=stdin)
    assert (result.exit_code, result.output) == (0, "")
    listener.wait_for(1)
    (publication,) = listener.received
    assert (publication.kind, publication.payload) == (kind, payload)


def test_members_are_listed_with_what_is_told_about_them(
    redis: RedisServer, server: tuple[RedisBroker, Listener]
) -> None:
    broker, _ = server
    broker.join("room", "ada", {"admin": True}, "1")
    broker.join("room", "bob\u202e", None, "2")
    app = make_app(redis.url)
    result = run(app, "presence", "room")
    assert result.output == 'ada\t{"admin": true}\nbob\\u202e\n'
    result = run(app, "presence", "--json", "room")
    assert json.loads(result.output) == {"ada": {"admin": True}, "bob\u202e": None}
    result = run(app, "presence", "--limit", "1", "room")
    assert result.output.count("\n") == 1


def test_what_each_process_has_counted_is_a_row(
    redis: RedisServer, server: tuple[RedisBroker, Listener]
) -> None:
    app = make_app(redis.url)
    result = run(app, "stats")
    assert result.output == "No process has subscribers now.\n"
    broker, listener = server
    subscribe(broker, "news")
    publish(broker, "news", b"1", b"2")
    listener.wait_for(2)
    here = socket.gethostname(), str(os.getpid())
    head, row = run(app, "stats").output.splitlines()
    assert head.split() == [
        *("HOST", "PID", "SOCKETS", "TOPICS", "SUBSCRIPTIONS", "PUBLISHED"),
        *("DELIVERED", "DROPPED", "SLOW"),
    ]
    assert row.split() == [*here, "0", "0", "0", "0", "2", "0", "0"]
    other = RedisBroker(redis.url)
    other.start(listener)
    subscribe(other, "news")
    _, *rows, total = run(app, "stats").output.splitlines()
    assert [row.split()[:2] for row in rows] == [[*here]] * 2
    assert total.split() == ["total", "0", "0", "0", "0", "4", "0", "0"]
    row = json.loads(run(app, "stats", "--json").output)[0]
    assert (row["host"], str(row["pid"]), row["delivered"]) == (*here, 2)
    other.close()


def test_what_is_published_is_printed_line_by_line_until_ctrl_c(
    tmp_path: Path, redis: RedisServer, server: tuple[RedisBroker, Listener]
) -> None:
    broker, _ = server
    with (
        listen(tmp_path, redis, "news") as plain,
        listen(tmp_path, redis, "news", "--json") as exact,
    ):
        for process in (plain, exact):
            process.wait_for("^Listening to 'news', until Ctrl-C.$")
        for kind, payload in (
            (Kind.TEXT, "grüß\n\x1b[31m".encode()),
            (Kind.BINARY, b"\xff\0"),
            (Kind.JSON, b'{\n"a": 1}'),
        ):
            broker.publish(Publication("news", kind, payload), PLAIN)
        plain.wait_for(r"^grüß\\n\\u001b\[31m\n/wA=\n\{\\n\"a\": 1\}\n\Z")
        exact.wait_for(r'"a": 1')
        for process in (plain, exact):
            process.signal_group(signal.SIGINT)
            assert process.wait() == 0
        printed = [json.loads(line) for line in exact.output.splitlines()[1:]]
        head = {"topic": "news", "position": None}
        assert printed == [
            {**head, "data": "grüß\n\x1b[31m"},
            {**head, "data": "/wA=", "encoding": "base64"},
            {**head, "data": {"a": 1}},
        ]
        assert plain.output.count("\n") == 4


def test_a_message_that_is_nowhere_is_an_error_of_one_line(
    tmp_path: Path, redis: RedisServer
) -> None:
    flask = Path(sys.executable).with_name("flask")
    with listen(tmp_path, redis, "-c", f"{flask} sockets publish news <&-") as process:
        assert process.wait() == 1
        assert process.output.startswith("Error: There is no message: ")
        assert process.output.count("\n") == 1


def test_nothing_is_said_when_nobody_reads_what_is_printed(
    tmp_path: Path, redis: RedisServer, server: tuple[RedisBroker, Listener]
) -> None:
    broker, _ = server
    flask = Path(sys.executable).with_name("flask")
    line = f"{flask} sockets listen news | head -1"
    with listen(tmp_path, redis, "-c", line) as process:
        process.wait_for("^Listening.*\n")

        def has_ended() -> bool:
            publish(broker, "news", b"hello")
            return len(process.members()) == 0

        until(has_ended, "the end of the command")
        assert process.wait() == 0
        assert process.output.splitlines()[1:] == [base64.b64encode(b"hello").decode()]


def test_whoever_listens_is_told_that_messages_may_be_missing(
    tmp_path: Path, redis: RedisServer
) -> None:
    with listen(tmp_path, redis, "log") as process:
        process.wait_for("^Listening")
        client = redis.client()
        client.flushall()
        client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        process.wait_for("^Messages may be missing here.$")
        assert "Traceback" not in process.output


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda a: a[0])
def test_who_can_not_reach_the_server_is_told_what_to_set(
    arguments: list[str],
) -> None:
    result = run(make_app("memory://"), *arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: This command can't reach the server, ")
    assert "'SOCKETS_BROKER'" in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda a: a[0])
def test_a_broker_that_is_away_is_an_error_of_one_line(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flask_sockets.topics.redis.listener.TIMEOUT", 1)
    result = run(make_app(f"redis://:s3cret@127.0.0.1:{free_port()}"), *arguments)
    assert result.exit_code == 1
    assert result.output.startswith("Error: The broker at 'redis://***@127.0.0.1:")
    assert result.output.count("\n") == 1


def test_a_wrong_password_is_an_error_that_does_not_show_it(redis: RedisServer) -> None:
    client = redis.client()
    client.config_set("requirepass", "right")
    try:
        broker = f"redis://:wr0ng@127.0.0.1:{redis.port}"
        result = run(make_app(broker), "publish", "news", "hello")
    finally:
        client.config_set("requirepass", "")
    assert result.exit_code == 1
    assert result.output.startswith("Error: The broker at 'redis://***@127.0.0.1:")
    assert "password" in result.output
    assert "wr0ng" not in result.output


@pytest.mark.parametrize(
    ("arguments", "stdin", "status", "words"),
    [
        (["presence", "news"], b"", 1, "The topic 'news' knows no members."),
        (["publish", "", "hello"], b"", 1, "The name of a topic can't be empty."),
        (["listen", "a\nb"], b"", 1, "has control characters."),
        (["publish", "news", "--json", "{"], b"", 1, "The message isn't JSON:"),
        (["publish", "news"], b"\xff", 1, "'--binary'"),
        (["publish", "news"], b"x" * 21, 1, "'SOCKETS_MAX_OUTBOX'"),
        (["publish", "a", "--json", "--binary"], b"", 2, "exclude each other."),
    ],
)
def test_a_mistake_is_an_error_of_one_line(
    redis: RedisServer, arguments: list[str], stdin: bytes, status: int, words: str
) -> None:
    result = run(make_app(redis.url), *arguments, stdin=stdin)
    assert result.exit_code == status
    *_, line = result.output.splitlines()
    assert line.startswith("Error: ")
    assert words in line


@pytest.mark.parametrize(
    ("broker", "words"),
    [("rabbit://host", "'rabbit'"), ("redis://host/x?db=y", "'SOCKETS_BROKER'")],
)
def test_a_setting_that_can_not_be_is_an_error_of_one_line(
    broker: str, words: str
) -> None:
    result = run(make_app(broker), "stats")
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert words in result.output
    assert result.output.count("\n") == 1


def test_an_app_without_sockets_is_told_so() -> None:
    result = run(Flask("shop"), "stats")
    assert result.exit_code == 1
    assert result.output == (
        "Error: The app 'shop' doesn't use Flask-Sockets. Call 'Sockets(app)' or"
        " 'sockets.init_app(app)' where the app is made.\n"
    )
