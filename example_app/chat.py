"""The chat's WebSocket route, in a blueprint of its own.

A room is two topics. What people say goes to ``chat/<room>``, which has a history: who
comes later gets the last messages, and who was cut off gets what was missed. Who is
there is known by ``people/<room>``, which has presence.

The browser gives its name in the URL, and the position of the last message it has seen
if it was there before: ``/chat/lobby?name=Ada&since=...``. Then it sends these, as
JSON, where the "id" of a message is optional::

    {"type": "message", "text": "Hi", "id": "x-1"}
    {"type": "rename", "name": "Bea"}

The server sends "welcome", the messages that the browser hasn't seen, and "ready".
After that come messages, "joined", "left", which looks like it, and "renamed"::

    {"type": "welcome", "greeting": "...", "me": "4f...", "recovered": true,
     "people": ["Ada", "Grace"]}
    {"topic": "chat/lobby", "position": "...", "data": {"type": "message",
     "id": "x-1", "name": "Ada", "text": "Hi", "time": 1735689600.0}}
    {"type": "joined", "member": "9a...", "name": "Eve", "people": ["Ada", "Eve", ...]}
    {"type": "renamed", "was": "Ada", "name": "Bea", "people": ["Bea", "Eve", ...]}
    {"type": "error", "message": "What was wrong, as a sentence.", "id": "x-1"}
"""

from __future__ import annotations

import dataclasses
import json
import time
import uuid
from typing import Any

from flask import Blueprint, Flask, abort, current_app, request

from flask_sockets import BrokerUnavailable, WebSocket, member_joined, member_left

from .extensions import sockets

NAME_LIMIT = 40
TEXT_LIMIT = 2000
ID_LIMIT = 64

#: How many messages of a room a newcomer is shown. They are kept in memory, and are
#: lost when the server restarts, unless the config SOCKETS_BROKER names a Redis.
HISTORY_LENGTH = 50

# An ordinary Flask blueprint. Its routes are WebSocket routes because it is registered
# with `sockets.register_blueprint()` instead of `app.register_blueprint()`.
blueprint = Blueprint("chat", __name__, url_prefix="/chat")


def init_app(app: Flask) -> None:
    """Let the chat hear who comes and goes."""
    member_joined.connect(announce_joined, app)
    member_left.connect(announce_left, app)


class BadInput(ValueError):
    """What the client sent cannot be used; the text tells its sender why."""


@dataclasses.dataclass
class Person:
    """Somebody in a room, as long as the connection lasts."""

    room: str
    #: Chosen by the person, who may have it in common with others.
    name: str
    #: Tells people apart.
    id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)


@sockets.topic("chat/<room>", history=HISTORY_LENGTH)
@sockets.topic("people/<room>", presence=True)
def may_enter(room: str) -> None:
    """Decide who may subscribe: only rooms that exist can be entered."""
    # Nothing has been sent yet, so the client gets a 404 and never a WebSocket.
    if room not in current_app.config["CHAT_ROOMS"]:
        abort(404, f"There is no room named '{room}'.")


@blueprint.route("/<room>")
def talk(ws: WebSocket, room: str) -> None:
    """Serve one person in one room, for as long as the connection lasts."""
    try:
        person = Person(room, read_name(request.args.to_dict()))
    except BadInput as error:
        abort(400, str(error))

    # What is said meanwhile waits until the end of the block.
    with (
        ws.subscribe(f"people/{room}", member=person.id, info={"name": person.name}),
        ws.subscribe(
            f"chat/{room}",
            history=HISTORY_LENGTH,
            since=request.args.get("since"),
            envelope=True,
        ) as messages,
    ):
        ws.send_json(
            {
                "type": "welcome",
                "greeting": current_app.config["CHAT_GREETING"],
                "me": person.id,
                "recovered": messages.recovered,
                "people": people_in(room),
            }
        )
    ws.send_json({"type": "ready"})

    # Text arrives as str, binary as bytes. The loop ends when the connection does,
    # whichever side ended it and however rudely, and so do the subscriptions.
    for message in ws:
        answer(ws, person, message)


def answer(ws: WebSocket, person: Person, message: str | bytes) -> None:
    """Do what one message from the browser asks for, or say what is wrong with it.

    A bad message is answered, not punished: if it closed the connection, the person at
    the other end would have no idea why.
    """
    event: dict[str, Any] = {}
    try:
        event = read_event(message)
        if event.get("type") == "message":
            # To everybody in the room, its author included. Nobody waits for a browser
            # that reads too slowly: it is closed, comes back, and gets what it missed.
            sockets.publish_json(f"chat/{person.room}", read_message(event, person))
        elif event.get("type") == "rename":
            rename(ws, person, read_name(event))
        else:
            raise BadInput("The 'type' of a message must be 'message' or 'rename'.")
    except BadInput as error:
        reply = {"type": "error", "message": str(error)}
        if isinstance(event.get("id"), str):
            reply["id"] = event["id"]
        ws.send_json(reply)
    except BrokerUnavailable:
        # The page comes back, and sends again what the room hasn't got.
        ws.close(1013, "The room can't be reached now.")


# Who is there


def people_in(room: str) -> list[str]:
    """The names of all people in a room."""
    infos = sockets.presence(f"people/{room}").values()
    return sorted((info["name"] for info in infos), key=str.casefold)


def rename(ws: WebSocket, person: Person, name: str) -> None:
    """Let a person have another name."""
    was, person.name = person.name, name
    if was != name:
        topic = f"people/{person.room}"
        ws.subscribe(topic, member=person.id, info={"name": name})
        announce(topic, {"type": "renamed", "was": was, "name": name})


def announce_joined(app: Flask, topic: str, member: str, info: Any) -> None:
    """Tell the room of somebody who has come."""
    announce(topic, {"type": "joined", "member": member, "name": info["name"]})


def announce_left(app: Flask, topic: str, member: str, info: Any) -> None:
    """Tell the room of somebody whose connection has ended, however it did."""
    announce(topic, {"type": "left", "member": member, "name": info["name"]})


def announce(topic: str, event: dict[str, Any]) -> None:
    """Tell the people of a room of a change, and who is there now."""
    people = people_in(topic.removeprefix("people/"))
    sockets.publish_json(topic, {**event, "people": people})


# What the browser sends


def read_event(message: str | bytes) -> dict[str, Any]:
    """Parse one message, which must be a JSON object."""
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):  # the second for thousands of "[" in a row
        raise BadInput("That message is not JSON.") from None
    if not isinstance(event, dict):
        raise BadInput("A message must be a JSON object with a 'type'.")
    return event


def read_name(event: dict[str, Any]) -> str:
    """Return the name, which is one line, whatever it was typed as."""
    return " ".join(read_text(event, "name", NAME_LIMIT).split())


def read_message(event: dict[str, Any], person: Person) -> dict[str, Any]:
    """Make what everybody in the room receives from what one person sent."""
    # The browser chooses the id where it can: then a page that was cut off recognises
    # its own message among those it missed, and does not send it twice.
    event.setdefault("id", uuid.uuid4().hex)
    return {
        "type": "message",
        "id": read_text(event, "id", ID_LIMIT),
        "name": person.name,
        "text": read_text(event, "text", TEXT_LIMIT),
        "time": time.time(),
    }


def read_text(event: dict[str, Any], field: str, limit: int) -> str:
    """Return a text field of the event, without the white space around it."""
    value = event.get(field)
    if not isinstance(value, str):
        raise BadInput(f"The '{field}' must be text.")
    # JSON can spell half of a surrogate pair, which is no character and cannot be
    # encoded as UTF-8. It becomes a question mark here, before it gets into a room's
    # history.
    value = value.encode(errors="replace").decode().strip()
    if not value:
        raise BadInput(f"The '{field}' is empty.")
    if len(value) > limit:
        raise BadInput(
            f"The '{field}' has {len(value)} characters; at most {limit} are allowed."
        )
    return value
