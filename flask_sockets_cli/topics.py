"""What the commands of ``flask sockets`` do, by way of the broker of the app."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import queue
import re
import sys
import typing as t

import click

from flask_sockets.topics.broker import BrokerUnavailable
from flask_sockets.topics.memory import MemoryBroker
from flask_sockets.topics.publication import Kind

if t.TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flask import Flask

    from flask_sockets.topics.app import AppTopics
    from flask_sockets.topics.broker import ProcessStats
    from flask_sockets.topics.publication import Publication

#: The columns of the table of what was counted, by their name in the stats.
COLUMNS = {
    "sockets": "SOCKETS",
    "topics": "TOPICS",
    "subscriptions": "SUBSCRIPTIONS",
    "published": "PUBLISHED",
    "delivered": "DELIVERED",
    "dropped": "DROPPED",
    "closed_as_slow": "SLOW",
}


@contextlib.contextmanager
def reach(app: Flask) -> Iterator[AppTopics]:
    """Give the topics of an app that other processes serve.

    :raises click.ClickException: if they can't be reached, or don't do what is asked
        of them.
    """
    extension = app.extensions.get("sockets")

    if extension is None:
        raise click.ClickException(
            f"The app {app.name!r} doesn't use Flask-Sockets. Call 'Sockets(app)' or"
            " 'sockets.init_app(app)' where the app is made."
        )

    topics: AppTopics = extension.topics

    try:
        if isinstance(topics.broker, MemoryBroker):
            raise click.ClickException(
                "This command can't reach the server, which keeps the topics in its"
                " own memory: set 'SOCKETS_BROKER' in the app's config to the URL of a"
                " Redis that both can reach, such as 'redis://localhost'."
            )

        with app.app_context():
            yield topics
    except (BrokerUnavailable, ImportError, ValueError) as error:
        raise click.ClickException(str(error)) from error


# Publishing


class Message(t.NamedTuple):
    """What is to be published."""

    value: t.Any
    is_json: bool


def read_message(argument: str | None, is_json: bool, is_binary: bool) -> Message:
    """Read a message from the command line, or else from standard input.

    :raises click.ClickException: if it isn't what it is said to be.
    """
    if argument is None or argument == "-":
        if sys.stdin is None:  # It is closed: '<&-'.
            raise click.ClickException(
                "There is no message: give it behind the topic, or by standard input."
            )

        if sys.stdin.isatty():
            click.echo(
                "Type the message, and then Ctrl-D on a line of its own.", err=True
            )

        data = sys.stdin.buffer.read()

        if not is_binary:
            data = data.removesuffix(b"\n").removesuffix(b"\r")
    else:
        data = os.fsencode(argument)

    if is_binary:
        return Message(data, False)

    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise click.ClickException(
            "The message isn't UTF-8, as a text has to be. Publish it with '--binary'."
        ) from None

    if not is_json:
        return Message(text, False)

    try:
        return Message(json.loads(text), True)
    except ValueError as error:
        raise click.ClickException(f"The message isn't JSON: {error}.") from None


def publish(topics: AppTopics, topic: str, message: Message) -> None:
    """Publish a message."""
    if message.is_json:
        topics.publish_json(topic, message.value)
    else:
        topics.publish(topic, message.value)


# Listening


class Inbox:
    """Takes what a broker brings. See :class:`flask_sockets.topics.broker.Receiver`."""

    def __init__(self) -> None:
        self._count = 0
        #: What came, and ``None`` where something may be missing.
        self.received: queue.SimpleQueue[Publication | None] = queue.SimpleQueue()

    def receive(self, publication: Publication) -> None:
        self._count += 1
        self.received.put(publication)

    def flush(self) -> None: ...

    def lose(self, topic: str) -> None:
        self.received.put(None)

    def disconnect(self, topic: str, code: int, reason: str) -> None: ...

    def member_left(self, topic: str, member: str, info: t.Any) -> None: ...

    def stats(self) -> Mapping[str, int]:
        return {**dict.fromkeys(COLUMNS, 0), "topics": 1, "delivered": self._count}


def listen(topics: AppTopics, topic: str, is_json: bool) -> None:
    """Print what is published to a topic, until Ctrl-C."""
    options = topics.rules.match(topic).options
    inbox = Inbox()
    broker = topics.start_broker(inbox)
    line_of = _json_line if is_json else _line

    with contextlib.suppress(KeyboardInterrupt):
        with _quiet_log():
            broker.subscribe({topic: options})

        click.echo(f"Listening to {topic!r}, until Ctrl-C.", err=True)

        while True:
            publication = inbox.received.get()

            if publication is None:
                click.echo("Messages may be missing here.", err=True)
            else:
                click.echo(line_of(publication))


@contextlib.contextmanager
def _quiet_log() -> Iterator[None]:
    """Say once what is wrong with the broker: the error that comes says it, too."""
    logger = logging.getLogger("flask_sockets.topics")
    before, logger.disabled = logger.disabled, True

    try:
        yield
    finally:
        logger.disabled = before


def _line(publication: Publication) -> str:
    if publication.kind is Kind.BINARY:
        return base64.b64encode(publication.payload).decode()

    return _printable(publication.payload.decode())


def _json_line(publication: Publication) -> str:
    # What was published as JSON stands there as it came, perhaps on several lines.
    return _printable(re.sub(r"[\r\n\t]", " ", publication.envelope()))


def _printable(text: str) -> str:
    """The text on one line, without anything that a terminal would obey.

    The escapes are those of JSON, and so may stand in it.
    """
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


# Looking


def print_members(topics: AppTopics, topic: str, limit: int, is_json: bool) -> None:
    """List the members of a topic."""
    members = topics.presence(topic, limit)

    if is_json:
        click.echo(json.dumps(members))
        return

    for member, info in members.items():
        told = "" if info is None else f"\t{json.dumps(info)}"
        click.echo(f"{_printable(member)}{told}")


def print_stats(topics: AppTopics, is_json: bool) -> None:
    """Show what each process has counted."""
    collected = topics.broker.collect_stats()
    processes = sorted(collected.processes, key=lambda p: (p.host, p.pid))

    if is_json:
        rows = [{"host": p.host, "pid": p.pid, **p.counts} for p in processes]
        click.echo(json.dumps(rows))
    elif processes:
        _print_table(processes)
    else:
        click.echo("No process has subscribers now.", err=True)

    if collected.silent:
        click.echo(f"Processes that don't answer: {collected.silent}.", err=True)


def _print_table(processes: Sequence[ProcessStats]) -> None:
    rows = [("HOST", "PID", *COLUMNS.values())]
    rows += [(p.host, str(p.pid), *_cells(p.counts)) for p in processes]

    if len(processes) > 1:
        total = {
            name: sum(p.counts.get(name, 0) for p in processes) for name in COLUMNS
        }
        rows.append(("total", "", *_cells(total)))

    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    for host, *numbers in rows:
        cells = [n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True)]
        click.echo("  ".join([host.ljust(widths[0]), *cells]))


def _cells(counts: Mapping[str, int]) -> list[str]:
    return [str(counts.get(name, 0)) for name in COLUMNS]
