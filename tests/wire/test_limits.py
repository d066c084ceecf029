"""Rates of messages and the end of connections, by a clock of the test's."""

from __future__ import annotations

import pytest

from flask_sockets.wire.rate import Meter, Rate
from flask_sockets.wire.timers import IDLE, LOOKS, Expiry, Timers

NEVER = float("inf")


def test_a_client_may_send_a_burst_and_then_keep_to_the_rate() -> None:
    meter = Meter(Rate(count=20, seconds=1, burst=50))
    assert meter.admit(60, now=100) == 50
    assert meter.admit(1, now=100) == 0
    for number in range(100):
        assert meter.admit(2, now=100 + (number + 1) * 0.05) == 1


def test_a_client_that_pauses_may_send_a_burst_again_but_no_more() -> None:
    meter = Meter(Rate(count=10, seconds=60, burst=10))
    for minute in (0, 1, 1000):
        assert meter.admit(11, now=minute * 60.0) == 10
    assert meter.admit(10, now=60_030) == 5


def test_a_client_that_keeps_to_the_rate_is_never_over_it() -> None:
    meter = Meter(Rate(count=3, seconds=1, burst=1))
    assert all(meter.admit(1, now=1e6 + n / 3) == 1 for n in range(10_000))


def test_a_connection_is_idle_after_its_time_and_not_before() -> None:
    timers = Timers(idle_timeout=60, now=100)
    now, messages = 100.0, 0
    while now < 1000:
        now, messages = timers.deadline, messages + 1
        assert timers.check(now, messages) is None
    last_message = now
    while (closing := timers.check(now, messages)) is None:
        assert now < timers.deadline <= last_message + 60
        now = timers.deadline
    assert closing == IDLE
    assert now == pytest.approx(last_message + 60)


def test_a_message_right_after_a_look_counts_from_the_next_look_on() -> None:
    timers = Timers(idle_timeout=60, now=0)
    assert timers.check(timers.deadline, 0) is None
    sent_at = timers.deadline - 60 / LOOKS + 0.1
    now = timers.deadline
    while timers.check(now, 1) is None:
        now = timers.deadline
    assert sent_at + 60 <= now <= sent_at + 60 + 60 / LOOKS


def test_a_connection_ends_at_its_time_whatever_is_sent() -> None:
    timers = Timers(idle_timeout=None, now=0)
    assert timers.deadline == NEVER
    timers.expiry = Expiry(50, 4001, "expired")
    assert timers.check(49.9, 1) is None
    assert timers.deadline == 50
    assert timers.check(50, 2) == (4001, "expired")
    timers.expiry = None
    assert timers.check(51, 3) is None
    assert timers.deadline == NEVER
