"""What the command listens with: a socket, and a certificate if it is to be secure."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import tempfile
import typing as t

import click


def bind(host: str, port: int) -> socket.socket:
    """The listening socket.

    :raises click.ClickException: with a sentence that says what to do about it.
    """
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError):
        raise click.ClickException(
            f"The host {host!r} is not known. Use '--host' with the name or the address"
            " of an interface of this machine."
        ) from None

    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)

    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        listener.bind(address)
        listener.listen(socket.SOMAXCONN)
    except OSError as error:
        listener.close()
        raise click.ClickException(_explain_bind(error, host, port)) from None

    return listener


def _explain_bind(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        sentence = (
            f"Port {port} is in use by another program. Stop that program, or use"
            " another port with '--port'."
        )

        if sys.platform == "darwin" and port == 5000:
            sentence += (
                " On macOS that may be 'AirPlay Receiver', which System Settings can"
                " disable."
            )

        return sentence

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


@contextlib.contextmanager
def make_certificate(
    cert: str | None, key: str | None
) -> t.Iterator[tuple[str, str] | None]:
    """The paths of a certificate and its key that have been found to work.

    :param cert: the path of the certificate, or ``"adhoc"`` for one that is made now
        and lasts as long as the command, or ``None``.
    :param key: the path of its key.
    :raises click.ClickException: if they cannot be used.
    """
    if cert is None:
        yield None
    elif cert == "adhoc":
        from werkzeug.serving import make_ssl_devcert

        with tempfile.TemporaryDirectory(prefix="flask-wsrun-") as directory:
            yield make_ssl_devcert(os.path.join(directory, "adhoc"), cn="localhost")
    else:
        import ssl

        assert key is not None

        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
        except (ssl.SSLError, OSError) as error:
            raise click.ClickException(
                f"The certificate {cert!r} cannot be used with the key {key!r}:"
                f" {error.args[-1]}. Use '--cert' and '--key' with PEM files that"
                " belong together, or '--cert adhoc'."
            ) from None

        yield cert, key
