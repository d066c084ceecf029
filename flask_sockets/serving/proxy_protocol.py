"""The PROXY protocol: a proxy says at the beginning of a connection who its client is.

See https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import struct
import typing as t

if t.TYPE_CHECKING:
    import io
    from collections.abc import Iterable

_V1_START = b"PROXY "
_V1_MAX_LENGTH = 107  # Section 2.1, with the end of the line.
_V2_START = b"\r\n\r\n\0\r\nQUIT\n"

#: Section 2.2: the transport, the length of an address, and where the ports are.
_V2_FAMILIES = {0x11: ("TCP4", 4), 0x21: ("TCP6", 16)}


class InvalidHeader(ValueError):
    """What the proxy says can't be understood."""


@dataclasses.dataclass(frozen=True)
class Route:
    """Where a connection comes from and went to, each an address and a port."""

    #: ``"TCP4"`` or ``"TCP6"``.
    protocol: str
    client: tuple[str, int]
    proxy: tuple[str, int]


def is_trusted(peer: t.Any, trusted: Iterable[str]) -> bool:
    """Whether a peer may say who its client is.

    :param peer: the address of the connection. At a Unix socket it is no tuple, and the
        permissions of the socket decide.
    :param trusted: addresses, networks such as ``"10.0.0.0/8"``, or ``"*"`` for all.
    """
    if not isinstance(peer, tuple):
        return True

    address = ipaddress.ip_address(peer[0])
    return any(name == "*" or address in ipaddress.ip_network(name) for name in trusted)


def is_next(stream: io.BufferedReader, mode: str) -> bool:
    """Whether a connection begins with the protocol, as far as it is spoken here.

    :param mode: ``"v1"``, ``"v2"``, or ``"auto"`` for both.
    """
    data = stream.peek()
    return any(
        data.startswith(start[: len(data)])
        for version, start in (("v1", _V1_START), ("v2", _V2_START))
        if mode in (version, "auto")
    )


def read(stream: io.BufferedReader) -> Route | None:
    """Read the header of the protocol.

    :return: ``None`` if the proxy speaks for itself, such as for a health check, or
        doesn't know.
    :raises InvalidHeader: if there is something else, or the connection ends.
    """
    if stream.peek()[:1] == _V1_START[:1]:
        return _parse_v1(stream.readline(_V1_MAX_LENGTH))

    header = stream.read(16)

    if len(header) < 16 or not header.startswith(_V2_START):
        raise InvalidHeader(f"{header!r} is no header of the PROXY protocol.")

    version_and_command, family, length = struct.unpack("!BBH", header[12:])
    return _parse_v2(version_and_command, family, stream.read(length))


def _parse_v1(line: bytes) -> Route | None:
    words = line.decode("latin-1").removesuffix("\r\n").split(" ")

    if line.endswith(b"\r\n"):
        if words[:2] == ["PROXY", "UNKNOWN"]:
            return None

        try:
            start, protocol, client, proxy, client_port, proxy_port = words

            if start == "PROXY":
                return Route(
                    protocol,
                    (_check(protocol, client), int(client_port)),
                    (_check(protocol, proxy), int(proxy_port)),
                )
        except ValueError:
            pass

    raise InvalidHeader(f"{line!r} is no header of the PROXY protocol.")


def _check(protocol: str, address: str) -> str:
    versions = {"TCP4": ipaddress.IPv4Address, "TCP6": ipaddress.IPv6Address}

    if protocol not in versions:
        raise ValueError(protocol)

    return str(versions[protocol](address))


def _parse_v2(version_and_command: int, family: int, data: bytes) -> Route | None:
    if version_and_command == 0x20 or (version_and_command, family) == (0x21, 0):
        return None

    if version_and_command != 0x21 or family not in _V2_FAMILIES:
        raise InvalidHeader(
            "The header of the PROXY protocol speaks of a version, command or"
            f" transport that isn't known: {version_and_command:#x}, {family:#x}."
        )

    protocol, size = _V2_FAMILIES[family]

    if len(data) < 2 * size + 4:
        raise InvalidHeader("The header of the PROXY protocol is too short.")

    client, proxy = data[:size], data[size : 2 * size]
    client_port, proxy_port = struct.unpack("!HH", data[2 * size : 2 * size + 4])
    return Route(
        protocol,
        (str(ipaddress.ip_address(client)), client_port),
        (str(ipaddress.ip_address(proxy)), proxy_port),
    )
