"""The certificate that HTTPS and wss:// are served with."""

from __future__ import annotations

import contextlib
import os
import typing as t

import click


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
        import tempfile

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
