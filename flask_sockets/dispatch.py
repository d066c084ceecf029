"""From the handshake request to the end of the WebSocket, as Flask does a request."""

from __future__ import annotations

import dataclasses
import functools
import time
import typing as t

from flask import Flask, got_request_exception, request_finished, request_started
from werkzeug.exceptions import BadRequest, Forbidden, HTTPException
from werkzeug.exceptions import NotImplemented as ServerCannot

from . import _flask, client_module
from .closing_log import write_closed
from .contexts import MessageContexts, Scope, pauses_of
from .database import watch_for_held_connections
from .exceptions import ConnectionClosed
from .handshake import check_request, is_handshake
from .limits import NO_LIMITS, Limits
from .opening import AppOpening, Handshake
from .options import RouteOptions
from .origins import is_origin_allowed
from .routing import (
    CALL_HANDLER_KEY,
    SocketRule,
    SocketView,
    refuse_async,
    rule_to_dispatch,
    scoped_request_class,
)
from .serving import clients
from .serving import handover as servers
from .signals import websocket_closed
from .views import SERVE_VIEW_KEY
from .websocket import WebSocket
from .wire.connection import Connection
from .wire.deflate import MalformedOffer, choose_compression
from .wire.registry import SERVER_RESTART
from .wire.transport import transport_for

if t.TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Request, Response
    from flask.typing import ResponseReturnValue
    from websockets.extensions import Extension
    from werkzeug.routing import Rule

    from .topics.app import AppTopics
    from .views import WebSocketView


class SocketMiddleware:
    """WSGI middleware that serves the WebSocket requests of an app.

    It stands around the app's own ``wsgi_app`` and inside of all other middleware.
    """

    def __init__(
        self, wsgi_app: WSGIApplication, app: Flask, sockets: object = None
    ) -> None:
        self.wsgi_app = wsgi_app
        self.app = app

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        if servers.foreign_websocket(environ) is not None:
            # Tell Werkzeug's routing what this request is.
            environ.update(HTTP_UPGRADE="websocket", HTTP_CONNECTION="Upgrade")

        if not is_handshake(environ):
            if client_module.is_wanted(environ):
                return client_module.serve(environ, start_response)

            return self.wsgi_app(environ, start_response)

        servers.replace_input(environ)
        request = SocketRequest(self.app, environ)

        try:
            return request.run(start_response)
        finally:
            if request.leave is not None:
                request.leave()


class SocketRequest:
    """One request for a WebSocket: the context, the hooks, the handler, the end."""

    def __init__(self, app: Flask, environ: WSGIEnvironment) -> None:
        self.app = app
        self.environ = environ
        self.context = _flask.request_context(app, environ)
        self.request: Request = self.context.request
        self.request.__class__ = scoped_request_class(
            type(self.request)  # type: ignore[arg-type]
        )
        #: A WebSocket that the server brings along, and that isn't one of ours.
        self.foreign = servers.foreign_websocket(environ)
        # Both are there once it is known that there can be a WebSocket of ours.
        self.opening: AppOpening | None = None
        self.websocket: WebSocket | None = None
        #: How the connection is to be closed.
        self.close_code = 1000
        self.close_reason = ""
        #: Where the handler has a context for each message.
        self.contexts: MessageContexts | None = None
        #: Called with the close code and the reason when the handler has ended.
        self.on_close: Callable[[int, str], None] | None = None
        #: Called when all is over.
        self.leave: Callable[[], None] | None = None
        #: What the handler raised, for teardown functions.
        self.error: BaseException | None = None

    def run(self, start_response: StartResponse) -> Iterable[bytes]:
        """Do what :meth:`flask.Flask.wsgi_app` does for other requests.

        The difference is the end. After the protocol is switched no exception is let
        through to the server, which would answer it with HTTP. And the connection is
        closed when the context is gone, so that a client that has seen the end finds
        everything cleaned up.
        """
        body: Iterable[bytes] | None = None

        try:
            try:
                self.context.push()
                response = self.dispatch()
            except Exception as error:
                self.error = error

                if self.is_left_to_http():
                    response = _flask.handle_exception(self.context, error)
                else:
                    response = None
                    self.handle_error(error)

            if response is not None:
                body = response(self.environ, start_response)
        except BaseException as error:
            # The server kills the handler, or the app lets exceptions pass.
            self.error = error

            if not isinstance(error, Exception):
                self.set_close(*SERVER_RESTART)

            self.finish(timeout=0)
            self.call_on_close()
            raise
        finally:
            if self.websocket is not None:
                clients.remove(self.websocket)

                if self.opening is not None and self.websocket.accepted:
                    self.tell_closed(self.websocket, self.opening.opened_at)

            # A debugger or a test client looks at what was answered with HTTP.
            if not self.handshake.is_switched:
                _flask.preserve_context(self.context)

            if _flask.should_ignore_error(self.app, self.error):
                self.error = None

            self.pop_context(self.error)

        if body is not None:
            return body

        self.finish()
        start_response("101 Switching Protocols", [])
        return []

    @property
    def argument(self) -> t.Any:
        """What the handler is called with."""
        return self.foreign if self.websocket is None else self.websocket

    @property
    def handshake(self) -> Handshake:
        """How far the handshake has come."""
        if self.opening is not None:
            return self.opening.state

        return Handshake.PENDING if self.foreign is None else Handshake.FOREIGN

    def is_left_to_http(self) -> bool:
        """Whether an HTTP response is the answer. From then on it is too late for any
        greenlet or thread to accept the WebSocket."""
        if self.opening is not None:
            self.opening.refuse()

        return not self.handshake.is_switched

    def set_close(self, code: int, reason: str = "") -> None:
        self.close_code = code
        # The reason has room for 123 bytes (RFC 6455 section 5.5). Don't cut a
        # character in two.
        self.close_reason = reason.encode()[:123].decode(errors="ignore")

    def finish(self, **options: float) -> None:
        """Close the connection, if it has come to that, and wait for the client."""
        if self.websocket is None or not self.handshake.is_switched:
            return

        # The server may have answered a handshake whose handler did nothing.
        self.websocket.ensure_accepted()
        connection = self.websocket.connection

        try:
            connection.finish(self.close_code, self.close_reason, **options)
        finally:
            self.topics.count_socket(-1)

            if connection.protocol.is_limit_exceeded:
                self.app.logger.warning(
                    "A client of the WebSocket %r sent a message of more than %s bytes,"
                    " and the connection was closed with 1009. If your clients send"
                    " such messages, raise the config 'SOCKETS_MAX_MESSAGE_SIZE'.",
                    self.request.path,
                    connection.options.max_message_size,
                )

            if connection.is_rate_exceeded:
                self.app.logger.warning(
                    "A client of the WebSocket %r sent more messages than"
                    " 'SOCKETS_MAX_MESSAGE_RATE', or the route's 'max_message_rate',"
                    " allows, and the connection was closed with 1008.",
                    self.request.path,
                )

    # The request, until the protocol is switched

    def dispatch(self) -> Response | None:
        """Do what :meth:`flask.Flask.full_dispatch_request` does for other requests.

        That method can't be called: it ends with a response, for which it would run
        the ``after_request`` functions. They run when the handshake is answered.

        :return: ``None`` if it was a WebSocket, which has ended.
        """
        app = self.app
        _flask.mark_first_request(app)

        try:
            request_started.send(app, _async_wrapper=app.ensure_sync)
            # Before any hook can use a WebSocket that isn't to be had.
            self.open()
            rv = _flask.preprocess_request(self.context)

            if rv is None:
                rv = self.dispatch_request()
        except Exception as error:
            if self.handshake.is_switched:
                self.handle_error(error)
                rv = None
            else:
                rv = _flask.handle_user_exception(self.context, error)

        if self.websocket is not None:
            self.websocket.end_subscriptions()

        if self.is_left_to_http():
            # Without a response Flask says that the view returned none.
            return _flask.finalize_request(
                self.context, t.cast("ResponseReturnValue", rv)
            )

        if rv is not None:
            self.close_instead_of(app.make_response(rv))

        if self.websocket is not None:
            self.websocket.ensure_accepted()
            # The client needn't wait for what is still to be cleaned up.
            self.websocket.connection.go_away(self.close_code, self.close_reason)

        self.call_on_close()
        self.save_session()
        request_finished.send(
            app, _async_wrapper=app.ensure_sync, response=app.response_class(status=101)
        )
        return None

    def open(self) -> None:
        """Get the WebSocket ready, if the request is for one that can be had.

        :raises werkzeug.exceptions.HTTPException: if the handshake is not in order.
        """
        if self.foreign is not None:
            return

        handover = servers.take_over(self.environ)

        if handover is not None and handover.is_upgraded:
            self.create_websocket(handover)

        if self.request.routing_exception is not None:
            return

        _flask.check_host(self.context)
        self.check_origin()
        self.check_limits()

        if handover is None:
            self.app.logger.error(
                "The WSGI server doesn't let the app use its socket, so the WebSocket"
                " %r can't be served. Use 'flask wsrun' for development, or gunicorn"
                " with 'gunicorn -k flask_sockets.worker'.",
                self.request.path,
            )
            raise ServerCannot("This server doesn't serve WebSockets.")

        if not handover.is_upgraded:
            check_request(self.environ)
            self.create_websocket(handover)

    @property
    def route_options(self) -> RouteOptions:
        options = getattr(self.request.url_rule, "route_options", None)
        return options or RouteOptions()

    def check_limits(self) -> None:
        """Find out whether there are too many WebSockets already.

        :raises werkzeug.exceptions.HTTPException: if there are.
        """
        app_limits = Limits.from_config(self.app.config)
        own_limits = self.route_options.own_limits

        if app_limits is NO_LIMITS and own_limits is NO_LIMITS:
            return

        self.leave = self.app.extensions["sockets"].admission.enter(
            app_limits,
            str(self.request.url_rule),
            own_limits,
            self.request.remote_addr,
            self.app.logger,
        )

    def check_origin(self) -> None:
        allowed = self.app.config["SOCKETS_ALLOWED_ORIGINS"]

        if is_origin_allowed(self.environ, allowed):
            return

        self.app.logger.warning(
            "Refused a WebSocket to %r from a page of %r. If that page is yours, add"
            " its origin to the list in the app's config 'SOCKETS_ALLOWED_ORIGINS'.",
            self.request.url,
            self.environ["HTTP_ORIGIN"],
        )
        raise Forbidden("Pages of this origin may not connect.")

    def create_websocket(self, handover: servers.Handover) -> None:
        config = self.app.config
        agreed: str | None = None
        extensions: Sequence[Extension] = ()

        if config["SOCKETS_COMPRESSION"] and not handover.is_upgraded:
            offers = self.environ.get("HTTP_SEC_WEBSOCKET_EXTENSIONS")

            try:
                agreed, extensions = choose_compression(offers)
            except MalformedOffer as error:
                raise BadRequest(str(error)) from error

        connection = Connection(
            transport_for(handover.socket),
            self.route_options.for_connection(config),
            extensions,
            handover.early,
        )
        self.opening = AppOpening(self.context, connection, handover, agreed)
        self.websocket = WebSocket(
            self.environ, self.opening, handover.handler, self.topics
        )
        self.environ[servers.WEBSOCKET_KEY] = self.websocket
        clients.add(self.websocket, handover.handler)

        if self.app.debug:
            self.watch_for_held_connections(self.websocket)

    @property
    def topics(self) -> AppTopics:
        return t.cast("AppTopics", self.app.extensions["sockets"].topics)

    # The handler

    def dispatch_request(self) -> ResponseReturnValue | None:
        """Do what :meth:`flask.Flask.dispatch_request` does for other requests.

        That method is only called where it makes a difference: if a subclass has
        another one, or if the app has decorated the view function. Each of its calls
        would stand on the stack that a connection keeps, 6 KiB in all.
        """
        app, request, rule = self.app, self.request, self.request.url_rule

        if rule is None:  # Flask raises the routing exception.
            return _flask.dispatch_request(self.context)

        stand_in = rule_to_dispatch(app, rule)
        is_flasks = getattr(app.dispatch_request, "__func__", None) is (
            Flask.dispatch_request
        )

        if is_flasks and isinstance(app.view_functions[stand_in.endpoint], SocketView):
            return self.call_handler(rule, request.view_args or {})

        self.environ[CALL_HANDLER_KEY] = functools.partial(self.call_handler, rule)
        request.url_rule = stand_in

        try:
            return _flask.dispatch_request(self.context)
        finally:
            request.url_rule = rule

    def call_handler(
        self, rule: Rule, view_args: dict[str, t.Any]
    ) -> ResponseReturnValue | None:
        """Call what the rule is for, with the WebSocket before what a view gets."""
        self.request.url_rule = rule

        if isinstance(rule, SocketRule):
            view_func, context = rule.view_func, rule.route_options.context
        else:  # From 'app.route(..., websocket=True)'.
            view_func = self.app.view_functions[rule.endpoint]
            refuse_async(view_func)
            context = Scope.CONNECTION

        rv: ResponseReturnValue | None

        if context is Scope.MESSAGE:
            self.begin_message_contexts()

        self.environ[SERVE_VIEW_KEY] = self.serve_view

        try:
            if view_args:
                rv = view_func(self.argument, **view_args)
            else:  # No dictionary to unpack, and no C function that does it: see above.
                rv = view_func(self.argument)
        finally:
            del self.environ[SERVE_VIEW_KEY]

        if self.websocket is None:
            return None

        if rv is None:
            self.websocket.ensure_accepted()
        elif self.websocket.accepted:
            # 0.2.1 made nothing of what a handler returned.
            rv = None

        return rv

    def serve_view(self, view: WebSocketView, url_variables: dict[str, t.Any]) -> t.Any:
        """Call the methods of a view for the connection."""
        websocket = self.argument
        self.begin_message_contexts()
        self.on_close = functools.partial(view.on_close, websocket)
        rv = view.on_open(websocket, **url_variables)

        if rv is None or self.handshake.is_switched:
            while (message := websocket.receive()) is not None:
                view.on_message(websocket, message)
                del message  # It isn't kept while the next one is waited for.

            return None

        return rv

    def call_on_close(self) -> None:
        """Tell a view that its connection is closed, if it was accepted."""
        on_close, self.on_close = self.on_close, None

        if on_close is None or self.websocket is None or not self.websocket.accepted:
            return

        try:
            # What went wrong before is none of its business, and was of the others.
            error, self.error = self.error, None
            self.leave_context(error)
            self.enter_context()
            ending = self.websocket.connection.ending
            on_close(ending.code, ending.reason)
        except Exception as error:
            self.handle_error(error)

    def watch_for_held_connections(self, websocket: WebSocket) -> None:
        look = watch_for_held_connections(
            websocket,
            str(self.request.url_rule),
            self.app.extensions["sockets"].told_of_connections,
            self.app.logger,
        )

        if look is not None:
            pauses_of(websocket).before.append(look)

    # The context

    def begin_message_contexts(self) -> None:
        """Give the handler, which begins in this greenlet or thread, a new context
        whenever it has waited."""
        websocket = self.websocket

        if websocket is None or self.contexts is not None:
            return

        self.contexts = contexts = MessageContexts(self)
        pauses = pauses_of(websocket)
        pauses.before.insert(0, contexts.leave)
        pauses.after.append(contexts.enter)

    def save_session(self) -> None:
        if self.opening is not None:
            self.opening.save_session(self.context)

    def leave_context(self, error: BaseException | None = None) -> None:
        try:
            self.save_session()
        finally:
            self.pop_context(error)

    def enter_context(self) -> None:
        self.context = _flask.push_copy(self.context)

    def pop_context(self, error: BaseException | None) -> None:
        """Pop the context, whose teardown functions run.

        What they raise can't be answered with HTTP once the protocol is switched.
        """
        try:
            self.context.pop(error)
        except Exception as failure:
            if not self.handshake.is_switched:
                raise

            if not self.tell_test(failure):
                self.app.logger.exception(
                    "A teardown function of the WebSocket %r failed.",
                    self.request.path,
                )

    def handle_error(self, error: Exception) -> None:
        """What the handler raised can't be answered with HTTP any more."""
        app = self.app

        if isinstance(error, ConnectionClosed) and error.websocket is self.websocket:
            return  # The client went away, and the handler found out by sending.

        if isinstance(error, HTTPException):
            self.close_instead_of(app.make_response(error.get_response(self.environ)))
            return

        self.error = error
        got_request_exception.send(app, _async_wrapper=app.ensure_sync, exception=error)

        if not self.tell_test(error):
            _flask.log_exception(self.context, error)

        self.set_close(1011, f"{type(error).__name__}: {error}" if app.debug else "")

    def tell_test(self, error: Exception) -> bool:
        """Hand an exception to a test, if there is one that gets it."""
        on_error = self.environ.get(servers.ON_ERROR_KEY)
        return on_error is not None and on_error(error)

    def close_instead_of(self, response: Response) -> None:
        """Say in a close code what the HTTP response would have said."""
        if response.status_code >= 300:
            self.set_close(1008, response.status.title())

    # The end

    def tell_closed(self, websocket: WebSocket, opened_at: float) -> None:
        """Send the signal for the end of a WebSocket, which is closed by now, and write
        the line for it."""
        connection = websocket.connection
        connection.go_away(self.close_code, self.close_reason)
        duration = time.monotonic() - opened_at
        write_closed(self.request.path, duration, connection.ending)

        try:
            websocket_closed.send(
                self.app,
                _async_wrapper=self.app.ensure_sync,
                websocket=websocket,
                duration=duration,
                **dataclasses.asdict(connection.ending),
            )
        except Exception as error:
            if not self.tell_test(error):
                self.app.logger.exception(
                    "A receiver of the signal 'websocket_closed' failed, of the"
                    " WebSocket %r.",
                    self.request.path,
                )
