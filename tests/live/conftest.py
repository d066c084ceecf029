from __future__ import annotations

import typing as t
import uuid

import pytest

from .clients import CLIENTS, Kind


@pytest.fixture(params=CLIENTS.values(), ids=list(CLIENTS))
def kind(request: pytest.FixtureRequest) -> Kind:
    """One client library after the other."""
    return t.cast(Kind, request.param)


@pytest.fixture
def key() -> str:
    """By which a handler's report is found."""
    return uuid.uuid4().hex
