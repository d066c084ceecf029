"""The commands ``flask sockets publish``, ``listen``, ``presence`` and ``stats``.

Every ``flask`` command imports this module, so it imports only what is there anyway.
"""

from __future__ import annotations

import typing as t

import click
from flask.cli import ScriptInfo, pass_script_info

if t.TYPE_CHECKING:
    from flask_sockets.topics.app import AppTopics

_json_option = click.option("--json", "is_json", is_flag=True, help="Print JSON.")


@click.group("sockets", short_help="Publish to WebSockets, and see what they do.")
def sockets_command() -> None:
    """Reach the WebSockets of a server that runs already.

    That goes by way of the broker, so the app's config 'SOCKETS_BROKER' has to be the
    URL of a Redis or Valkey.
    """


@sockets_command.command(short_help="Send a message to all subscribers of a topic.")
@click.argument("topic")
@click.argument("message", required=False)
@click.option("--json", "is_json", is_flag=True, help="The message is JSON.")
@click.option(
    "--binary",
    "is_binary",
    is_flag=True,
    help="Send a binary message, of exactly the bytes there are.",
)
@pass_script_info
def publish(
    info: ScriptInfo, topic: str, message: str | None, is_json: bool, is_binary: bool
) -> None:
    """Send MESSAGE to all WebSockets that are subscribed to TOPIC.

    Without MESSAGE, or if it is '-', the message is what standard input holds, without
    the end of its last line.
    """
    from .topics import publish, read_message

    if is_json and is_binary:
        raise click.UsageError("'--json' and '--binary' exclude each other.")

    with _reach(info) as topics:
        publish(topics, topic, read_message(message, is_json, is_binary))


@sockets_command.command(short_help="Print what is published to a topic.")
@click.argument("topic")
@click.option(
    "--json",
    "is_json",
    is_flag=True,
    help="Print JSON with the topic, the position and the data of each message.",
)
@pass_script_info
def listen(info: ScriptInfo, topic: str, is_json: bool) -> None:
    """Print what is published to TOPIC, each message on a line, until Ctrl-C.

    Control characters are printed as escapes, and binary messages as base64.
    """
    from .topics import listen

    with _reach(info) as topics:
        listen(topics, topic, is_json)


@sockets_command.command(short_help="List the members of a topic.")
@click.argument("topic")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="How many members to list at most.",
)
@_json_option
@pass_script_info
def presence(info: ScriptInfo, topic: str, limit: int, is_json: bool) -> None:
    """List the members of TOPIC, each with what is told about it."""
    from .topics import print_members

    with _reach(info) as topics:
        print_members(topics, topic, limit, is_json)


@sockets_command.command(short_help="Show what each process has counted.")
@_json_option
@pass_script_info
def stats(info: ScriptInfo, is_json: bool) -> None:
    """Show what each process has counted that has subscribers.

    The sockets, topics and subscriptions are those of now. Since the process has
    started it has published some messages; it has delivered some to sockets, once for
    each of them, and dropped others for sockets that read too slowly; it has closed
    some of those as slow.
    """
    from .topics import print_stats

    with _reach(info) as topics:
        print_stats(topics, is_json)


def _reach(info: ScriptInfo) -> t.ContextManager[AppTopics]:
    from .topics import reach

    return reach(info.load_app())
