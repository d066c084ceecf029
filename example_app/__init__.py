"""A small chat, to read first and to try Flask-Sockets with.

Start it with ``flask --app example_app wsrun --reload``, open the page in two tabs, and
edit :data:`GREETING` below: the server reloads, and both tabs reconnect and show it.

It is built the way a larger app would be: a factory, extension objects in a module of
their own, and a blueprint for each part of the app (:mod:`example_app.chat`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Flask, render_template

from flask_sockets import WebSocket

from . import chat
from .extensions import sockets

#: Shown on the page, and sent again each time a browser connects.
GREETING = "Open this page in a second tab and say hello."

sockets.register_blueprint(chat.blueprint)


@sockets.route("/echo")
def echo(ws: WebSocket) -> None:
    """Send every message back: text as text, binary as binary."""
    # The loop ends when the client closes; the connection ends when the function does.
    for message in ws:
        ws.send(message)


def create_app(config: Mapping[str, Any] | None = None) -> Flask:
    """Make the app. A mapping overrides its configuration, for example in a test."""
    app = Flask(__name__)
    app.config["CHAT_GREETING"] = GREETING
    app.config["CHAT_ROOMS"] = ("lobby", "python", "random")
    # Variables such as FLASK_CHAT_GREETING.
    app.config.from_prefixed_env()
    app.config.from_mapping(config)

    sockets.init_app(app)
    chat.init_app(app)

    # The page itself is an ordinary view; it opens the WebSocket from the browser.
    @app.route("/")
    def index() -> str:
        return render_template(
            "index.html",
            greeting=app.config["CHAT_GREETING"],
            rooms=app.config["CHAT_ROOMS"],
        )

    return app
