"""Which WebSockets are let in where only so many may be open."""

from __future__ import annotations

import functools
import ipaddress
import threading
import time
import typing as t

from werkzeug.exceptions import HTTPException, ServiceUnavailable, TooManyRequests

from .limits import SETTINGS, Limits

if t.TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from logging import Logger


#: When a client may come again that was turned away, in seconds.
RETRY_AFTER = 10

#: How often the log says that clients are turned away, in seconds.
LOG_INTERVAL = 60.0


class Admission:
    """Counts the WebSockets of an app in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # How many WebSockets have a place in common, while there are any.
        self._counts: dict[Hashable, int] = {}
        self._told_at: dict[str, float] = {}

    def enter(
        self,
        app_limits: Limits,
        rule: str,
        route_limits: Limits,
        address: str | None,
        logger: Logger,
    ) -> Callable[[], None] | None:
        """Let a WebSocket in, or turn it away.

        :param rule: of the route.
        :param address: of the client.
        :return: what to call when it has ended, if it was counted.
        :raises werkzeug.exceptions.ServiceUnavailable: if there are too many.
        :raises werkzeug.exceptions.TooManyRequests: if there are too many of the
            address.
        """
        places = _places(app_limits, None, address)
        places += _places(route_limits, rule, address)

        if not places:
            return None

        keys = [place.key for place in places]
        counts = self._counts

        with self._lock:
            full = next((p for p in places if counts.get(p.key, 0) >= p.limit), None)

            if full is None:
                for key in keys:
                    counts[key] = counts.get(key, 0) + 1

        if full is not None:
            self._tell(full, rule, address, logger)
            raise full.refusal()

        def leave() -> None:
            with self._lock:
                for key in keys:
                    counts[key] -= 1

                    if not counts[key]:
                        del counts[key]

        return leave

    def _tell(
        self, full: _Place, rule: str, address: str | None, logger: Logger
    ) -> None:
        now = time.monotonic()

        with self._lock:
            if now < self._told_at.get(full.setting, float("-inf")) + LOG_INTERVAL:
                return

            self._told_at[full.setting] = now

        hint = ""

        if full.is_of_address:
            hint = (
                " If that is the address of a proxy, let Werkzeug's 'ProxyFix' find the"
                " one of the client."
            )

        logger.warning(
            "Turned away a WebSocket to %r from %s: there are %s already, as many as %s"
            " allows.%s This is said once a minute.",
            rule,
            address,
            full.limit,
            full.setting,
            hint,
        )


class _Place(t.NamedTuple):
    """Something that so many WebSockets have in common."""

    key: Hashable
    limit: int
    #: The attribute of :class:`.Limits` that says so.
    name: str
    #: ``None`` if it counts for all.
    rule: str | None

    @property
    def is_of_address(self) -> bool:
        return self.name == "max_connections_per_address"

    @property
    def setting(self) -> str:
        """What sets the limit."""
        if self.rule is None:
            return f"the config {SETTINGS[self.name]!r}"

        return f"{self.name!r} of {self.rule!r}"

    def refusal(self) -> HTTPException:
        """What a client gets that is over the limit."""
        if self.is_of_address:
            return TooManyRequests(
                "There are too many connections from this address.",
                retry_after=RETRY_AFTER,
            )

        return ServiceUnavailable(
            "There are too many connections.", retry_after=RETRY_AFTER
        )


def _places(limits: Limits, rule: str | None, address: str | None) -> list[_Place]:
    """What a WebSocket has in common with others, as far as that is limited."""
    places = []

    if (limit := limits.max_connections) is not None:
        places.append(_Place(rule, limit, "max_connections", rule))

    # A proxy at a Unix socket has no address, and its clients are not to be taken for
    # one.
    if (limit := limits.max_connections_per_address) is not None and address:
        key = rule, network_of(address)
        places.append(_Place(key, limit, "max_connections_per_address", rule))

    return places


@functools.lru_cache
def network_of(address: str) -> str:
    """What counts as one address: of IPv6 the first half, since each customer of a
    provider has at least all addresses that begin with one (RFC 6177)."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address

    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)

    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)

    return str(ipaddress.ip_network((ip, 64), strict=False))
