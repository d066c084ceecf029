"""Which hosts are answered for in debug mode.

A page of any site can have its own name stand for 127.0.0.1 (DNS rebinding). To the
browser the server is then part of that site, and the site's scripts read all that the
server answers. Debug mode shows source code and more. So only names that nobody else
can have are answered for, as Werkzeug's debugger does it.
"""

from __future__ import annotations

import ipaddress
import typing as t
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.sansio.utils import host_is_trusted

from ..settings import UNIX, Settings
from ..terminal import warn

if t.TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class TrustedHosts:
    """Hosts that are answered for: ``localhost`` and its subdomains, IP addresses, the
    name that the server was bound to, and what the app's ``SERVER_NAME`` and
    ``TRUSTED_HOSTS`` say.

    :param settings: what the command was asked for.
    :param app: the app, ``None`` if it could not be loaded.
    """

    def __init__(self, settings: Settings, app: Flask | None) -> None:
        # Browsers don't reach a socket with a path. Its proxy decides about hosts.
        self._is_behind_proxy = settings.host.startswith(UNIX)
        self._names = [".localhost", settings.host]

        if app is not None:
            self._names += app.config.get("TRUSTED_HOSTS") or ()

            if server_name := app.config["SERVER_NAME"]:
                # Werkzeug 3.2 compares names without their ports.
                self._names.append(f".{server_name.partition(':')[0]}")

    def __contains__(self, host: str) -> bool:
        """Whether a host is trusted.

        :param host: a name or an address, and perhaps a port, as in a ``Host`` header.
        """
        return self._is_behind_proxy or self._is_known(host)

    def trusts_page(self, origin: str, host: str | None) -> bool:
        """Whether a page is of the host that it asks, or of another trusted one.

        :param origin: the ``Origin`` header of its request (RFC 6454, section 7).
        :param host: the ``Host`` header.
        """
        netloc = urlsplit(origin).netloc
        return netloc == host or self._is_known(netloc)

    def _is_known(self, host: str) -> bool:
        host = host.lower()
        return _is_address(host) or host_is_trusted(host, self._names)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False

    return True


def only_for(hosts: TrustedHosts, application: WSGIApplication) -> WSGIApplication:
    """Answer requests for trusted hosts with an application, and others with 400."""
    is_told = False

    def answer(
        environ: WSGIEnvironment, start_response: StartResponse
    ) -> t.Iterable[bytes]:
        nonlocal is_told
        host = environ.get("HTTP_HOST")

        # Browsers always send one.
        if host is None or host in hosts:
            return application(environ, start_response)

        sentence = (
            f"The host {host!r} is not answered for in debug mode. If it is yours, add"
            " it to 'TRUSTED_HOSTS' in the app's configuration."
        )

        if not is_told:
            is_told = True
            warn(sentence)

        body = f"{sentence}\n".encode()
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        start_response("400 Bad Request", headers)
        return [body]

    return answer
