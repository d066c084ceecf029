"""What all processes have counted: each is asked, and nothing is stored until then.

Redis says how many processes it has asked, so that whoever asks knows when all have
answered. Their answers are in a list that Redis forgets soon.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
import typing as t

from ..broker import CollectedStats, ProcessStats
from .scripts import control_channel
from .wire_format import TellStats

if t.TYPE_CHECKING:
    from collections.abc import Mapping

    from .calls import Calls

#: How long to wait for the answers, in seconds.
PATIENCE = 3.0

#: How often to look for them, in seconds.
INTERVAL = 0.02

#: How long the answers are kept, in seconds.
LIFETIME = 10


def tell(
    calls: Calls, prefix: str, order: TellStats, counts: Mapping[str, int]
) -> None:
    """Answer, for this process.

    :raises BrokerUnavailable: if Redis can't be reached.
    """
    stats = ProcessStats.of_this_process(counts)
    answer = json.dumps(dataclasses.asdict(stats))
    key = _key(prefix, order)
    calls.call_all([("RPUSH", key, answer), ("EXPIRE", key, LIFETIME)])


def collect(calls: Calls, prefix: str) -> CollectedStats:
    """Ask all processes, and wait for their answers.

    :raises BrokerUnavailable: if Redis can't be reached.
    """
    order = TellStats(secrets.token_hex(8))
    give_up = time.monotonic() + PATIENCE
    asked = calls.call("PUBLISH", control_channel(prefix), order.encode())
    answers: list[bytes] = []

    while len(answers) < asked and time.monotonic() < give_up:
        time.sleep(INTERVAL)
        answers = calls.call("LRANGE", _key(prefix, order), 0, -1)

    return CollectedStats(
        [ProcessStats(**json.loads(answer)) for answer in answers],
        silent=max(0, asked - len(answers)),
    )


def _key(prefix: str, order: TellStats) -> str:
    return f"{prefix}:stats:{order.token}"
