"""The bare app, for tests that have no time to wait for a server's timeouts."""

from bare import app as app

from flask_sockets import WebSocketHandler

WebSocketHandler.request_timeout = 0.5
WebSocketHandler.idle_timeout = 1
