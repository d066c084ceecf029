"""TLS on gevent's servers: handshakes that don't end in time, and clients that speak
something else.
"""

from __future__ import annotations

import contextlib
import ssl
import typing as t

import gevent
from gevent.server import StreamServer


class TLSHandshakes(StreamServer):
    """Does the TLS handshakes of a server of gevent that inherits from this as well.

    A connection takes one of the server's places before its client has said anything.
    gevent would wait for the handshake without an end, and would show a traceback for
    each one that fails.
    """

    #: How long a handshake may take, in seconds.
    handshake_timeout: float = 30.0

    def wrap_socket_and_handle(self, client_socket: t.Any, address: t.Any) -> t.Any:
        """Do the handshake and serve the client. Called by gevent, if there is TLS."""
        arguments: dict[str, t.Any] = dict(self.ssl_args or {})
        arguments["do_handshake_on_connect"] = False
        # An attribute of the server, which its types take for a method.
        wrap = t.cast(t.Any, self).wrap_socket

        with contextlib.closing(wrap(client_socket, **arguments)) as sock:
            try:
                self.shake_hands(sock)
            except OSError as error:
                self.log_tls_error(address, error)
                return None

            try:
                return self.handle(sock, address)
            except (ssl.SSLError, ConnectionError) as error:
                self.log_tls_error(address, error)
                return None

    def shake_hands(self, sock: t.Any) -> None:
        """Do the handshake.

        :raises OSError: if the client doesn't do its part in time, or does it wrong.
        """
        seconds = self.handshake_timeout
        too_late = TimeoutError(f"The handshake took longer than {seconds:g} seconds.")

        with gevent.Timeout(seconds, too_late):
            sock.do_handshake()

    def log_tls_error(self, address: t.Any, error: OSError) -> None:
        """Say in one line that a client didn't do its part: plain HTTP perhaps, or a
        browser that doesn't trust the certificate."""
        raise NotImplementedError
