"""Other extensions for Flask, which look at every rule of an app.

APIFlask and flasgger are not among what the tests need: both add commands to ``flask``,
so that each of its processes, in all tests, would have to import them.
"""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from flask import Flask
from flask_frozen import Freezer, MissingURLGeneratorWarning

from flask_sockets import Sockets, WebSocket

from .documents import Document
from .process import until


def add_routes(app: Flask) -> None:
    """A page, a WebSocket, and one of each that share a path and an endpoint."""
    sockets = Sockets(app)

    def talk(ws: WebSocket) -> None:
        """Talk."""

    sockets.add_url_rule("/talk", "talk", talk)
    sockets.add_url_rule("/", "index", talk)
    app.add_url_rule("/", "index", lambda: "page")


def test_apiflask_describes_an_app_with_websockets() -> None:
    """It looks up a view function for each rule."""
    app = pytest.importorskip("apiflask").APIFlask(__name__)
    add_routes(app)
    response = app.test_client().get("/openapi.json")
    assert response.status_code == 200
    assert "/" in t.cast("dict[str, t.Any]", response.json)["paths"]


def test_apiflask_leaves_out_a_websocket_that_is_hidden() -> None:
    """As its recipe says."""
    pytest.importorskip("apiflask")
    names: dict[str, t.Any] = {"__name__": "app"}
    exec(Document("docs/recipes/apis.md").captioned("APIFlask"), names)
    client = names["app"].test_client()
    assert list(client.get("/openapi.json").json["paths"]) == ["/pets"]
    with client.websocket("/pets/live") as ws:
        until(lambda: names["sockets"].stats()["subscriptions"], "it has subscribed")
        names["sockets"].publish("pets", "a bird")
        assert ws.receive() == "a bird"


def test_flasgger_describes_an_app_with_websockets() -> None:
    """It parses the docstring of the function of each rule."""
    app = Flask(__name__)
    pytest.importorskip("flasgger").Swagger(app)
    add_routes(app)
    assert app.test_client().get("/apispec_1.json").status_code == 200


def test_frozen_flask_freezes_the_pages_of_an_app_with_websockets(
    tmp_path: Path,
) -> None:
    """It has to be told which: it takes each GET without arguments for a page."""
    app = Flask(__name__)
    app.config["FREEZER_DESTINATION"] = tmp_path
    add_routes(app)
    freezer = Freezer(app, with_no_argument_rules=False)
    freezer.register_generator(lambda: [("index", {})])
    with pytest.warns(MissingURLGeneratorWarning, match="endpoints talk"):
        assert freezer.freeze() == {"/"}
    assert (tmp_path / "index.html").read_text() == "page"
