"""The warm process and its servers, with the test in the supervisor's place."""

from __future__ import annotations

import queue
import socket
import sys
import typing as t

import pytest

from flask_sockets_cli.supervisor import Gone, Warm

from ..process import PATIENCE

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="sockets are inherited in another way"
)


class Inbox(queue.SimpleQueue[tuple[object, t.Any]]):
    """What the warm process tells."""

    def wait_for(self, condition: t.Callable[[t.Any], bool]) -> None:
        while not condition(self.get(timeout=PATIENCE)[1]):
            pass


@pytest.mark.parametrize("forks", [True, False])
def test_warm_process_that_ends_leaves_nothing_open(forks: bool) -> None:
    """The supervisor closes its end of the conversation, or Python would warn here."""
    inbox = Inbox()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        Warm(listener, forks, inbox).end()

    inbox.wait_for(lambda item: isinstance(item, Gone))
