"""What a WebSocket route can be told besides what every route of Flask can."""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from .contexts import Scope
from .limits import NO_LIMITS, Limits
from .wire.protocol import Options

if t.TYPE_CHECKING:
    from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class RouteOptions:
    """The options of a WebSocket route."""

    #: How long the context of its handler lasts.
    context: Scope = Scope.CONNECTION
    #: The limits that were given, by their names in :class:`.Limits`.
    limits: dict[str, t.Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def own_limits(self) -> Limits:
        """The limits that the route has for itself."""
        return Limits(**self.limits) if self.limits else NO_LIMITS

    def for_connection(self, config: Mapping[str, t.Any]) -> Options:
        """The options of a connection to the route, whose limits come before those in
        the config of the app.
        """
        limits = Limits.from_config(config)

        if self.limits:
            limits = dataclasses.replace(limits, **self.limits)

        return Options(
            max_message_size=config["SOCKETS_MAX_MESSAGE_SIZE"],
            max_fragments=config["SOCKETS_MAX_FRAGMENTS"],
            max_read_ahead=config["SOCKETS_MAX_READ_AHEAD"],
            ping_interval=config["SOCKETS_PING_INTERVAL"],
            ping_timeout=config["SOCKETS_PING_TIMEOUT"],
            message_rate=limits.max_message_rate,
            idle_timeout=limits.idle_timeout,
        )

    @classmethod
    def take_from(cls, rule: str, options: dict[str, t.Any]) -> RouteOptions:
        """Take the options out of those that were given for a rule.

        :raises ValueError: if one has a value that it can't have.
        """
        context = options.pop("context", Scope.CONNECTION.value)

        try:
            scope = Scope(context)
        except ValueError:
            raise ValueError(
                f"The context of the WebSocket {rule!r} is {context!r}. It is"
                " 'connection' for one that lasts until the handler returns, or"
                " 'message' for a new one with each message."
            ) from None

        return cls(context=scope, limits=Limits.take_from(rule, options))
