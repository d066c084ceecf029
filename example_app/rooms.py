"""Who is in a room, and how a message reaches them all.

Every connection is served in its own greenlet under ``flask wsrun`` and gunicorn's
gevent workers, and in its own thread under ``flask run``. This module is right under
both, because it uses only the standard library's ``threading`` and ``queue``: where
gevent serves, it has patched them, and the same lines make greenlets.
"""

from __future__ import annotations

import json
from collections import deque
from queue import Queue
from threading import Lock, Thread
from typing import Any

from flask_sockets import ConnectionClosed, WebSocket

#: How many messages of a room a newcomer is shown. They are kept in memory only, and
#: are lost when the server restarts; a real chat would keep them in a database.
HISTORY_LENGTH = 50

#: How many messages may wait for a member who does not read them, before the member is
#: dropped.
BACKLOG_LIMIT = 200


class Member:
    """One connection in a room.

    Sending takes as long as the other side takes to read, which may be forever. So
    nobody sends to a member directly: messages go into the member's outbox, which never
    waits, and the member's own writer sends them. A slow or dead member holds up nobody
    else.
    """

    def __init__(self, ws: WebSocket) -> None:
        self.ws = ws
        #: The name the others see; None until the member has joined.
        self.name: str | None = None
        self._outbox: Queue[str | None] = Queue()
        self._too_slow = False
        Thread(target=self._write, daemon=True).start()

    def deliver(self, text: str) -> None:
        """Have the text sent, without waiting for it."""
        if self._outbox.qsize() < BACKLOG_LIMIT:
            self._outbox.put(text)
        else:
            self._too_slow = True

    def stop(self) -> None:
        """End the writer, once the connection is over."""
        self._outbox.put(None)

    def _write(self) -> None:
        try:
            while (text := self._outbox.get()) is not None:
                if self._too_slow:
                    # Some messages are lost. The page reconnects and gets the history.
                    self.ws.close(1013, "You are reading too slowly.")
                    break
                self.ws.send(text)
        except ConnectionClosed:
            # The member left while something was on its way. The loop that reads from
            # the connection ends as well, and it is the one that cleans up.
            pass


class Room:
    """The members and the latest messages of one room."""

    def __init__(self) -> None:
        self._members: list[Member] = []
        self._history: deque[dict[str, Any]] = deque(maxlen=HISTORY_LENGTH)
        # Held while the room changes and the news of it goes into the outboxes, so that
        # everybody sees the same things in the same order. Nothing under it waits for
        # the network.
        self._lock = Lock()

    def join(self, member: Member, name: str, greeting: str) -> None:
        """Let a member in; if it is in already, change its name."""
        with self._lock:
            was, member.name = member.name, name
            if was is None:
                self._members.append(member)
                welcome = {
                    "type": "welcome",
                    "greeting": greeting,
                    "people": self._people(),
                    "history": list(self._history),
                }
                member.deliver(json.dumps(welcome))
                self._announce({"type": "joined", "name": name}, skip=member)
            elif was != name:
                self._announce({"type": "renamed", "was": was, "name": name})

    def leave(self, member: Member) -> None:
        """Take a member out and tell the others; nothing happens if it never joined."""
        with self._lock:
            if member in self._members:
                self._members.remove(member)
                self._announce({"type": "left", "name": member.name})

    def say(self, message: dict[str, Any]) -> None:
        """Send a message to everybody in the room, its author included."""
        with self._lock:
            self._history.append(message)
            self._send(message)

    def _people(self) -> list[str]:
        return sorted((member.name or "" for member in self._members), key=str.casefold)

    def _announce(self, event: dict[str, Any], skip: Member | None = None) -> None:
        self._send({**event, "people": self._people()}, skip)

    def _send(self, event: dict[str, Any], skip: Member | None = None) -> None:
        text = json.dumps(event)  # once, instead of once for each member
        for member in self._members:
            if member is not skip:
                member.deliver(text)
