from __future__ import annotations

import typing as t
import uuid

import pytest

from .clients import CLIENTS, Client


@pytest.fixture(params=CLIENTS.values(), ids=list(CLIENTS))
def kind(request: pytest.FixtureRequest) -> t.Callable[..., Client]:
    """One client library after the other."""
    return t.cast("t.Callable[..., Client]", request.param)


@pytest.fixture
def key() -> str:
    """By which a handler's report is found."""
    return uuid.uuid4().hex
