"""What an app declares about its topics: patterns, options, and who may subscribe."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import math
import typing as t

from werkzeug.exceptions import Forbidden, HTTPException
from werkzeug.routing import BaseConverter, Map, Rule
from werkzeug.routing.exceptions import RoutingException

from .names import check_name

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Authorizer: t.TypeAlias = Callable[..., t.Any]

#: How many names of topics are remembered with the rule that matched.
CACHE_SIZE = 4096

#: How long a topic's history is kept by default, in seconds.
DEFAULT_TTL = 3600.0


class Overflow(enum.Enum):
    """What becomes of a subscriber whose outbox is full."""

    #: The connection is closed with 1013.
    CLOSE = "close"
    #: What is new is lost for this subscriber.
    DROP = "drop"
    #: Only the newest publication is kept for it.
    LATEST = "latest"


@dataclasses.dataclass(frozen=True)
class TopicOptions:
    """The options of a topic.

    :param history: how many publications are kept for those who come later.
    :param ttl: for how many seconds they are kept.
    :param presence: whether the topic knows its members.
    :param overflow: the value of an :class:`Overflow`.
    :raises TypeError: if an option has the wrong type.
    :raises ValueError: if it has an impossible value.
    """

    history: int = 0
    ttl: float = DEFAULT_TTL
    presence: bool = False
    overflow: Overflow | str = Overflow.CLOSE

    def __post_init__(self) -> None:
        check_count(self.history, "history")

        if isinstance(self.ttl, bool) or not isinstance(self.ttl, (int, float)):
            raise TypeError(f"'ttl' is a number of seconds, not {self.ttl!r}.")

        if not (0 < self.ttl < math.inf):
            raise ValueError(
                f"'ttl' is a number of seconds greater than 0, not {self.ttl!r}."
            )

        try:
            object.__setattr__(self, "overflow", Overflow(self.overflow))
        except ValueError:
            raise ValueError(
                f"'overflow' is 'close', 'drop' or 'latest', not {self.overflow!r}."
            ) from None


def check_count(value: object, name: str) -> None:
    """Raise the exception that a count of publications deserves.

    :raises TypeError: if it isn't a whole number.
    :raises ValueError: if it is negative.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"'{name}' is a whole number, not {value!r}.")

    if value < 0:
        raise ValueError(f"'{name}' can't be negative: {value!r}.")


@dataclasses.dataclass(eq=False)
class Declaration:
    """What was declared about all topics of a pattern."""

    options: TopicOptions = dataclasses.field(default_factory=TopicOptions)
    #: Called with the variables of the pattern, before a socket subscribes.
    authorizer: Authorizer | None = None


class Topic(t.NamedTuple):
    """What the rules say about a topic."""

    name: str
    declaration: Declaration
    variables: Mapping[str, t.Any]

    @property
    def options(self) -> TopicOptions:
        return self.declaration.options

    def authorize(self) -> None:
        """Ask the app whether this request may subscribe.

        :raises werkzeug.exceptions.HTTPException: if it may not.
        """
        authorizer = self.declaration.authorizer

        # A function that answers the question by True or False is easily written, and
        # must not let everybody in.
        if authorizer is not None and authorizer(**self.variables) is False:
            raise Forbidden(f"The topic {self.name!r} is not for you.")


class TopicRules:
    """Patterns of topics, which are Werkzeug's rules without the first slash.

    A topic that no pattern matches is a plain one, with no options.
    """

    def __init__(self) -> None:
        # Only a URL can be sent elsewhere.
        self._map = Map(merge_slashes=False, redirect_defaults=False)
        self._adapter = self._map.bind("")
        self._patterns: set[str] = set()
        self._remembered = functools.lru_cache(CACHE_SIZE)(self._match)

    def add(
        self,
        pattern: str,
        declaration: Declaration,
        converters: Mapping[str, type[BaseConverter]],
    ) -> None:
        """Declare topics.

        :param pattern: such as ``"room/<int:number>"``.
        :param converters: those that the pattern may use.
        :raises ValueError: if there can't be such a pattern, or there is one already.
        :raises LookupError: if it names a converter that isn't there.
        """
        check_name(pattern)

        if pattern.startswith("/"):
            raise ValueError(
                f"The topic {pattern!r} begins with a slash, as no topic of a pattern"
                f" does. Call it {pattern.lstrip('/')!r}."
            )

        if pattern in self._patterns:
            raise ValueError(f"The topic {pattern!r} is declared already.")

        self._map.converters.update(converters)
        self._map.add(Rule(f"/{pattern}", endpoint=declaration))
        self._patterns.add(pattern)
        self._remembered.cache_clear()

    def match(self, name: str) -> Topic:
        """Find what was declared about a topic.

        :raises TypeError: if the name isn't a ``str``.
        :raises ValueError: if no topic can have that name.
        """
        if not isinstance(name, str):
            check_name(name)  # The cache would say that it can't hash the name.

        return self._remembered(name)

    def _match(self, name: str) -> Topic:
        check_name(name)
        declaration: t.Any = Declaration()
        variables: Mapping[str, t.Any] = {}

        # Werkzeug makes one slash of all at the beginning.
        if not name.startswith("/"):
            # Both exceptions mean that nothing was declared.
            with contextlib.suppress(HTTPException, RoutingException):
                declaration, variables = self._adapter.match(f"/{name}")

        return Topic(name, declaration, variables)
