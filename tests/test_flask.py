"""The private parts of Flask that are used, in :mod:`flask_sockets._flask`."""

from __future__ import annotations

from flask import Flask


def test_flask_still_remembers_its_first_request() -> None:
    """By an attribute that has no public name."""
    assert Flask(__name__).__dict__.get("_got_first_request") is False, (
        "Flask has no '_got_first_request' any more. Look in 'full_dispatch_request'"
        " for what it does instead, and do that in 'mark_first_request' of"
        " flask_sockets/_flask.py."
    )
