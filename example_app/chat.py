"""The chat's WebSocket route, in a blueprint of its own.

Both sides send JSON objects with a "type". The browser sends "join" first, and again to
change the name; the "id" of a message is optional::

    {"type": "join", "name": "Ada"}
    {"type": "message", "text": "Hi", "id": "x-1"}

The server sends these, and "left", which looks like "joined"::

    {"type": "welcome", "greeting": "...", "people": ["Ada"], "history": [...]}
    {"type": "message", "id": "x-1", "name": "Ada", "text": "Hi", "time": 1735689600.0}
    {"type": "joined", "name": "Grace", "people": ["Ada", "Grace"]}
    {"type": "renamed", "was": "Ada", "name": "Bea", "people": ["Bea", "Grace"]}
    {"type": "error", "message": "What was wrong, as a sentence.", "id": "x-1"}
"""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from flask import Blueprint, abort, current_app

from flask_sockets import WebSocket

from .rooms import Member, Room

NAME_LIMIT = 40
TEXT_LIMIT = 2000
ID_LIMIT = 64

# An ordinary Flask blueprint. Its routes are WebSocket routes because it is registered
# with `sockets.register_blueprint()` instead of `app.register_blueprint()`.
chat = Blueprint("chat", __name__, url_prefix="/chat")


class BadInput(ValueError):
    """What the client sent cannot be used; the text tells its sender why."""


@chat.route("/<room>")
def talk(ws: WebSocket, room: str) -> None:
    """Serve one person in one room, for as long as the connection lasts."""
    # Nothing has been sent yet, so the request can be refused like any other: the
    # client gets a 404 and never a WebSocket. Only rooms that exist can be entered;
    # otherwise anybody could fill the memory with new ones.
    rooms: dict[str, Room] = current_app.extensions["chat_rooms"]
    if room not in rooms:
        abort(404, f"There is no room named '{room}'.")

    member = Member(ws)
    try:
        # Text arrives as str, binary as bytes. The loop ends when the connection does,
        # whichever side ended it and however rudely.
        for message in ws:
            answer(rooms[room], member, message)
    finally:
        # Whatever ended the loop, the others must see that this person has gone.
        rooms[room].leave(member)
        member.stop()


def answer(room: Room, member: Member, message: str | bytes) -> None:
    """Do what one message from the browser asks for, or say what is wrong with it.

    A bad message is answered, not punished: if it closed the connection, the person at
    the other end would have no idea why.
    """
    event: dict[str, Any] = {}
    try:
        event = read_event(message)
        if event.get("type") == "join":
            # A name is one line, whatever it was typed as.
            name = " ".join(read_text(event, "name", NAME_LIMIT).split())
            room.join(member, name, greeting=current_app.config["CHAT_GREETING"])
        elif event.get("type") == "message":
            room.say(read_message(event, member))
        else:
            raise BadInput("The 'type' of a message must be 'join' or 'message'.")
    except BadInput as error:
        reply = {"type": "error", "message": str(error)}
        if isinstance(event.get("id"), str):
            reply["id"] = event["id"]
        member.deliver(json.dumps(reply))


def read_event(message: str | bytes) -> dict[str, Any]:
    """Parse one message, which must be a JSON object."""
    try:
        event = json.loads(message)
    except (ValueError, RecursionError):  # the second for thousands of "[" in a row
        raise BadInput("That message is not JSON.") from None
    if not isinstance(event, dict):
        raise BadInput("A message must be a JSON object with a 'type'.")
    return event


def read_message(event: dict[str, Any], member: Member) -> dict[str, Any]:
    """Make what everybody in the room receives from what one member sent."""
    if member.name is None:
        raise BadInput("Join the room with a name before sending messages.")
    # The browser chooses the id where it can: then a page that was cut off recognises
    # its own message in the history, and does not send it twice.
    event.setdefault("id", uuid.uuid4().hex)
    return {
        "type": "message",
        "id": read_text(event, "id", ID_LIMIT),
        "name": member.name,
        "text": read_text(event, "text", TEXT_LIMIT),
        "time": time.time(),
    }


def read_text(event: dict[str, Any], field: str, limit: int) -> str:
    """Return a text field of the event, without the white space around it."""
    value = event.get(field)
    if not isinstance(value, str):
        raise BadInput(f"The '{field}' of a '{event['type']}' must be text.")
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
