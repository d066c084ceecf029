"""Who is there: the members of a topic, each with one socket or several."""

from __future__ import annotations

import itertools
import json
import typing as t

#: How many bytes of JSON a member's info may have.
MAX_INFO_SIZE = 4096


class Members:
    """The members of one topic, in the order in which they came."""

    def __init__(self) -> None:
        # The info that each socket of each member brought, the latest one last.
        self._infos: dict[str, dict[str, t.Any]] = {}

    def __len__(self) -> int:
        return len(self._infos)

    def join(self, member: str, info: t.Any, socket: str) -> bool:
        """Add a socket of a member, or change what it says about the member.

        :param socket: the id of the socket.
        :return: whether the member is new.
        """
        sockets = self._infos.setdefault(member, {})
        is_new = not sockets
        sockets.pop(socket, None)
        sockets[socket] = info
        return is_new

    def leave(self, member: str, socket: str) -> bool:
        """Take a socket of a member away.

        :return: whether that was the last one, so that the member is gone.
        """
        sockets = self._infos.get(member)

        if sockets is None or socket not in sockets:
            return False

        del sockets[socket]

        if sockets:
            return False

        del self._infos[member]
        return True

    def list(self, limit: int) -> dict[str, t.Any]:
        """The members and the latest info of each.

        :param limit: how many to list at most.
        """
        first = itertools.islice(self._infos.items(), limit)
        return {member: next(reversed(infos.values())) for member, infos in first}


def check_info(info: t.Any) -> None:
    """Find out whether a member's info can be told to others.

    :raises TypeError: if JSON has no form for it.
    :raises ValueError: if it is too large.
    """
    size = len(json.dumps(info))

    if size > MAX_INFO_SIZE:
        raise ValueError(
            f"The 'info' of a member has {size} bytes as JSON, and at most"
            f" {MAX_INFO_SIZE} are allowed."
        )
