"""What a WebSocket route can be told besides what every route of Flask can."""

from __future__ import annotations

import dataclasses
import typing as t

from .contexts import Scope


@dataclasses.dataclass(frozen=True)
class RouteOptions:
    """The options of a WebSocket route."""

    #: How long the context of its handler lasts.
    context: Scope = Scope.CONNECTION

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
        return cls(context=scope)
