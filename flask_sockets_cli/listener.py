"""The listening socket, or the sentence that says why there can be none."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import typing as t

import click

from .settings import UNIX

#: Seconds after which a connection is accepted even if nothing has come from it.
_LONGEST_DEFERRAL = 10
#: How many ports above one that is taken are tried.
_NEARBY = 20


def port_of(listener: socket.socket) -> int:
    """The port a socket listens on, 0 for one that has a path."""
    address = listener.getsockname()
    return address[1] if isinstance(address, tuple) else 0


@contextlib.contextmanager
def open_listener(host: str, port: int) -> t.Iterator[socket.socket]:
    """The listening socket, for as long as it is needed.

    :param host: the name or address of an interface, or ``unix://`` and a path.
    :param port: the port, 0 for any free one.
    :raises click.ClickException: with a sentence that says what to do about it.
    """
    if not host.startswith(UNIX):
        with _bind(host, port) as listener:
            yield listener

        return

    path = os.path.abspath(host.removeprefix(UNIX))

    with _bind_path(path) as listener:
        try:
            yield listener
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _bind(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError):
        raise click.ClickException(
            f"The host {host!r} is not known. Use '--host' with the name or the address"
            " of an interface of this machine."
        ) from None

    family, _, _, _, address = found[0]

    try:
        return _listen(family, address)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise click.ClickException(_explain_bind(error, host, port)) from None

    other = _listen_at_next(family, address)
    taken = f"Port {port} is in use by another program."

    if sys.platform == "darwin" and port == 5000:
        taken += " That may be 'AirPlay Receiver', which System Settings can disable."

    if other is None:
        raise click.ClickException(
            f"{taken} Stop that program, or use another port with '--port'."
        )

    free = port_of(other)

    if sys.stdin is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        other.close()
        raise click.ClickException(
            f"{taken} Stop that program, or use '--port {free}', which is free."
        )

    if not click.confirm(f"{taken} Use port {free} instead?", default=True, err=True):
        other.close()
        raise click.Abort

    return other


def _listen(family: int, address: t.Any) -> socket.socket:
    """A socket that listens at an address.

    :raises OSError: if there can be none.
    """
    listener = socket.socket(family, socket.SOCK_STREAM)

    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        if hasattr(socket, "TCP_DEFER_ACCEPT"):
            # A connection is accepted when its first request has come. Until then it
            # belongs to no server, and a reload does not concern it.
            with contextlib.suppress(OSError):
                listener.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, _LONGEST_DEFERRAL
                )

        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError:
        listener.close()
        raise

    return listener


def _listen_at_next(family: int, address: t.Any) -> socket.socket | None:
    """A socket that listens at the next port that is free, if there is one nearby."""
    host, port, *rest = address

    for other in range(port + 1, min(port + _NEARBY, 65535) + 1):
        with contextlib.suppress(OSError):
            return _listen(family, (host, other, *rest))

    return None


def _bind_path(path: str) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise click.ClickException(
            "This system has no sockets with a path. Use '--host' with '127.0.0.1'."
        )

    _remove_leftover(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    try:
        listener.bind(path)
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()

        if error.errno == errno.EADDRINUSE:
            reason = "another program or another file has that path"
        else:
            # Python's own sentence for a path that is too long has no number.
            reason = error.strerror or str(error)

        raise click.ClickException(
            f"Could not listen on the socket {path!r}: {reason}. Use another path with"
            " '--host'."
        ) from None

    return listener


def _remove_leftover(path: str) -> None:
    """Remove a socket that a program has left behind which was killed."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                try:
                    probe.connect(path)
                except ConnectionRefusedError:
                    os.unlink(path)


def _explain_bind(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EACCES:
        return (
            f"Port {port} is reserved for the system's administrator. Use a port above"
            " 1023 with '--port'."
        )

    if error.errno == errno.EADDRNOTAVAIL:
        return (
            f"The host {host!r} is no address of this machine. Use '--host' with"
            " '127.0.0.1', or with '0.0.0.0' for all of its addresses."
        )

    return f"Could not listen on host {host!r} and port {port}: {error.strerror}."
