"""What pages do to the process that their tests share with others."""

from __future__ import annotations

import logging
import typing as t

import pytest


@pytest.fixture(autouse=True)
def logs_as_before() -> t.Iterator[None]:
    """What a page sets of the log of sockets that have closed is for the page only."""
    logger = logging.getLogger("flask_sockets.closed")
    level, handlers, propagate = logger.level, logger.handlers[:], logger.propagate
    yield
    logger.setLevel(level)
    logger.handlers[:], logger.propagate = handlers, propagate
