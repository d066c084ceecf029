"""Brokers that tests have started are closed after the test."""

from __future__ import annotations

import typing as t

import pytest

from .contract import started


@pytest.fixture(autouse=True)
def close_brokers() -> t.Iterator[None]:
    yield
    while started:
        started.pop().close()
