"""Whose pages may connect: the check of the origin (RFC 6455 section 10.2).

Browsers let any page connect to any server, and send the server's cookies along. All
they do is say where the page is from (RFC 6454).
"""

from __future__ import annotations

import functools
import ipaddress
import re
import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import WSGIEnvironment

    Origins: t.TypeAlias = (
        "str | re.Pattern[str] | Iterable[str | re.Pattern[str]] | None"
    )

_DEFAULT_PORTS = {"http": 80, "https": 443}

#: What browsers say of pages that have no host. It is only allowed by itself.
_WITHOUT_HOST = ("null", "file://")

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._~-]+)(?::([0-9]{1,5}))?")
_HOST_PATTERN = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._~*-]+)(?::([0-9]{1,5}))?")

#: Longer ones aren't in the DNS (RFC 1035 section 2.3.4), and would take long to match.
_MAX_HOST = 253


class Origin(t.NamedTuple):
    """A scheme, a host and a port, as all three are compared."""

    scheme: str
    #: In lower case, an IPv6 address in brackets and as short as can be.
    host: str
    #: The default port of the scheme if none is given.
    port: int | None

    @classmethod
    def parse(cls, text: str, host: re.Pattern[str] = _HOST) -> Origin | None:
        """Parse what is nothing but an origin.

        :param host: what matches the host and the port.
        """
        scheme, _, rest = text.lower().partition("://")

        if _SCHEME.fullmatch(scheme) is None:
            return None

        split = _split_host(rest, host)

        if split is None:
            return None

        name, port = split
        return cls(scheme, name, port or _DEFAULT_PORTS.get(scheme))


def _split_host(
    text: str, pattern: re.Pattern[str] = _HOST
) -> tuple[str, int | None] | None:
    """Split ``"host:port"``, or return ``None`` if it is anything else."""
    found = pattern.fullmatch(text.lower())

    if found is None or len(found[1]) > _MAX_HOST:
        return None

    host, port = found[1], int(found[2] or 0)

    if host.startswith("["):
        try:
            host = f"[{ipaddress.IPv6Address(host[1:-1])}]"
        except ValueError:
            return None

    return host, port or None


def is_origin_allowed(environ: WSGIEnvironment, allowed: Origins) -> bool:
    """Whether a page of the request's origin may connect.

    :param allowed: ``None`` for pages of the same host and port. The scheme doesn't
        count, since a proxy may end TLS. ``"*"`` for all, or one or more origins:
        ``"https://example.com"``, a pattern such as ``"https://*.example.com"``, or
        a compiled regular expression, which has to match all of the origin. In the
        host of a pattern, ``*`` stands for a label, for one or more of them at the
        beginning, or for a part of one.
    :raises ValueError: if an allowed origin is none.
    """
    origin = environ.get("HTTP_ORIGIN")

    if origin is None:  # Not a browser.
        return True

    if allowed is None:
        return _is_same_host(environ, origin)

    if isinstance(allowed, (str, re.Pattern)):
        allowed = [allowed]

    # All are looked at before, so that a mistake among them shows at once.
    matches = [_matches(origin, pattern) for pattern in allowed]
    return any(matches)


def _matches(origin: str, pattern: str | re.Pattern[str]) -> bool:
    if isinstance(pattern, re.Pattern):
        return pattern.fullmatch(origin) is not None

    if pattern == "*":
        return True

    if pattern in _WITHOUT_HOST:
        return origin == pattern

    scheme, host, port = _compile(pattern)
    theirs = Origin.parse(origin)
    return (
        theirs is not None
        and (theirs.scheme, theirs.port) == (scheme, port)
        and host.fullmatch(theirs.host) is not None
    )


@functools.lru_cache
def _compile(pattern: str) -> tuple[str, re.Pattern[str], int | None]:
    """Make a scheme, a regular expression for the host, and a port of a pattern.

    :raises ValueError: if it isn't an origin, but for its asterisks.
    """
    text = pattern.rstrip("/") if isinstance(pattern, str) else ""

    if not text.isascii():  # Browsers send names as the DNS has them.
        scheme, separator, host = text.partition("://")

        try:
            text = f"{scheme}{separator}{host.encode('idna').decode()}"
        except UnicodeError:
            text = ""

    origin = Origin.parse(text, _HOST_PATTERN)

    if origin is None:
        raise ValueError(
            f"{pattern!r} in 'SOCKETS_ALLOWED_ORIGINS' is not an origin. An origin has"
            " a scheme, a host, and a port if that isn't the scheme's own, such as"
            " 'https://example.com' or 'http://localhost:3000'. In the host '*' stands"
            " for labels, as in 'https://*.example.com'. For anything else, compile a"
            " regular expression."
        )

    # Only the first label stands for several. If others could too, a long name that
    # doesn't match would be tried in too many ways.
    labels = [_label(label) for label in origin.host.split(".")]
    several = r"(?:[^.]+\.)*" if labels[0] == _label("*") else ""
    return origin.scheme, re.compile(several + r"\.".join(labels)), origin.port


def _label(pattern: str) -> str:
    if pattern == "*":
        return "[^.]+"

    return re.escape(pattern).replace(r"\*", "[^.]*")


def _is_same_host(environ: WSGIEnvironment, origin: str) -> bool:
    host = environ.get("HTTP_HOST")

    if not host:
        host = f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"

    ours, theirs = _split_host(host), Origin.parse(origin)

    if ours is None or theirs is None or theirs.scheme not in _DEFAULT_PORTS:
        return False

    our_host, our_port = ours
    # A default port may be left out. Which one that is depends on the scheme the
    # browser sees, and in 'Host' also on the one the server sees.
    their_default = _DEFAULT_PORTS[theirs.scheme]
    our_default = _DEFAULT_PORTS.get(environ["wsgi.url_scheme"])

    if our_port is None or our_port == our_default:
        our_port = their_default

    return (our_host, our_port) == (theirs.host, theirs.port)
