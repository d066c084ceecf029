"""How many WebSockets and messages there may be: what the config and routes may say."""

from __future__ import annotations

import dataclasses
import math
import re
import typing as t

from .wire.rate import Rate

if t.TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS = {"second": 1.0, "minute": 60.0, "hour": 3600.0}

_RATE = re.compile(r"(\d+) ?/ ?(second|minute|hour)(?:, burst (\d+))?", re.ASCII)


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """Limits of all WebSockets of an app, or those of a route. ``None`` is none."""

    #: Connections to this process.
    max_connections: int | None = None
    #: Connections to this process from one address.
    max_connections_per_address: int | None = None
    #: Messages from one client.
    max_message_rate: Rate | None = None
    #: Seconds without a message.
    idle_timeout: float | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, t.Any]) -> Limits:
        """The limits in the config of an app.

        :raises ValueError: if one can't be. So are those of the other functions here.
        """
        # Each handshake asks, since the config may have been changed.
        values = {
            name: config[setting]
            for name, setting in SETTINGS.items()
            if config[setting] is not None
        }

        if not values:
            return NO_LIMITS

        return cls(
            **{
                name: read_limit(name, value, f"The config {SETTINGS[name]!r}")
                for name, value in values.items()
            }
        )

    @classmethod
    def take_from(cls, rule: str, options: dict[str, t.Any]) -> dict[str, t.Any]:
        """Take those out that were given among the options of a rule."""
        return {
            name: read_limit(
                name,
                options.pop(name),
                f"The option {name!r} of the WebSocket {rule!r}",
            )
            for name in SETTINGS
            if name in options
        }


#: The names in the config, by those of the attributes.
SETTINGS = {
    field.name: f"SOCKETS_{field.name.upper()}" for field in dataclasses.fields(Limits)
}

NO_LIMITS = Limits()


def read_limit(name: str, value: t.Any, what: str) -> t.Any:
    """Read the value of a limit.

    :param name: of the attribute of :class:`Limits`.
    :param what: what to begin an error with.
    """
    if value is None:
        return None

    return _READERS[name](value, what)


def _read_count(value: t.Any, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"{what} is {value!r}. It is a whole number from 1, or None for no limit."
        )

    return value


def _read_seconds(value: t.Any, what: str) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)

    if not is_number or not math.isfinite(value) or value <= 0:
        raise ValueError(
            f"{what} is {value!r}. It is a number of seconds, more than 0, or None for"
            " no limit."
        )

    return float(value)


def _read_rate(value: t.Any, what: str) -> Rate:
    match = _RATE.fullmatch(value) if isinstance(value, str) else None

    if match is not None:
        count = int(match[1])
        burst = count if match[3] is None else int(match[3])

        if count and burst:
            return Rate(count, _SECONDS[match[2]], burst)

    raise ValueError(
        f"{what} is {value!r}. It is a text such as '20/second', '100/minute' or"
        " '1000/hour', with ', burst 50' if more or fewer may come at once, or None for"
        " no limit."
    )


_READERS = {
    "max_connections": _read_count,
    "max_connections_per_address": _read_count,
    "max_message_rate": _read_rate,
    "idle_timeout": _read_seconds,
}
