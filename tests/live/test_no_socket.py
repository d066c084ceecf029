"""A server that keeps its socket to itself: a clear answer, and a way out."""

from __future__ import annotations

import logging
import typing as t

import pytest
from flask import Flask

from flask_sockets import Sockets

from .clients import HANDSHAKE, Kind, Refused
from .ways import Way

PLAIN = Way("pywsgi-plain", ("serve.py", "plain", "{app}"), r"Running on \S+:(\d+)")


def test_server_that_offers_no_socket(kind: Kind) -> None:
    """gevent's WSGI server without our handler: 501, and a log line that names the
    servers that do it."""
    with PLAIN.serve("bare:app") as server:
        with pytest.raises(Refused) as caught:
            kind(server.url("/echo"))
        assert caught.value.status == 501
        line = server.wait_for_log("^.*'/echo' can't be served.*$")[0]
        assert "'flask wsrun'" in line
        assert "'gunicorn -k flask_sockets.worker'" in line
        # HTTP is as it was.
        assert server.get("/").status == 200
        assert server.get("/echo").status == 426
        server.expected += ["NotImplementedError: This server doesn't serve"]
        server.assert_log_is_clean()


def test_werkzeugs_test_client(caplog: pytest.LogCaptureFixture) -> None:
    """A test client has no socket at all."""
    app = Flask(__name__)
    sockets = Sockets(app)

    @sockets.route("/echo")
    def echo(ws: t.Any) -> None:
        raise AssertionError("The handler must not be called.")

    with caplog.at_level(logging.ERROR):
        response = app.test_client().get("/echo", headers=HANDSHAKE)
    assert response.status_code == 501
    assert "'flask wsrun'" in caplog.text
    assert "'gunicorn -k flask_sockets.worker'" in caplog.text
