"""The session of a handshake, which its handler may go on changing for hours."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Flask, Request
    from flask.sessions import SessionMixin


class SavedSession:
    """A session as it was when it was saved with the answer to the handshake.

    Meanwhile the browser may do anything to the session over HTTP: log out, or change
    other values. So a change that comes later is made to what is stored then.

    :param cookies: the ``Set-Cookie`` headers that have gone out with the answer.
    """

    __slots__ = ("cookie", "had_values", "values")

    def __init__(
        self, app: Flask, session: SessionMixin, cookies: Iterable[str]
    ) -> None:
        self.values = _fingerprint(session)
        #: Some sessions have keys of their own, and are empty all the same.
        self.had_values = bool(session)
        start = f"{app.session_interface.get_cookie_name(app)}="
        #: ``name=value``, ``None`` if the browser has the one that it sent.
        self.cookie: str | None = None

        for cookie in cookies:
            if cookie.startswith(start):
                self.cookie = cookie.partition(";")[0]

    def save_changes(self, app: Flask, request: Request, session: SessionMixin) -> bool:
        """Save what has changed since the last time, and nothing else.

        A session that is gone, because the user has logged out, stays gone.

        :return: ``False`` if the change can't be saved: a cookie would have to be set.
        """
        saved, self.values = self.values, _fingerprint(session)
        had_values, self.had_values = self.had_values, bool(session)
        changed = {
            key
            for key in saved.keys() | self.values.keys()
            if saved.get(key) != self.values.get(key)
        }

        if not changed:
            return True

        stored = self._open(app, request)

        if stored is None:
            return False

        if had_values and not stored:
            return True

        before = _fingerprint(stored)

        if had_values and not session:  # The handler has logged the user out.
            stored.clear()

        for key in changed:
            if key in session:
                stored[key] = session[key]
            else:
                stored.pop(key, None)

        if _fingerprint(stored) == before:  # Somebody else has done the same.
            return True

        # Not to be sent: the browser has had its answer.
        app.session_interface.save_session(app, stored, app.response_class())
        after = self._open(app, request)
        return after is not None and _fingerprint(after) != before

    def _open(self, app: Flask, request: Request) -> SessionMixin | None:
        """Open the session as it is for the next request of the browser."""
        environ = dict(request.environ)

        if self.cookie is not None:
            cookies = (self.cookie, environ.get("HTTP_COOKIE"))
            environ["HTTP_COOKIE"] = "; ".join(filter(None, cookies))

        next_request = app.request_class(environ)
        next_request.json_module = app.json
        return app.session_interface.open_session(app, next_request)


def _fingerprint(session: SessionMixin) -> dict[str, str]:
    """Tells which values have changed, also deep inside."""
    return {key: repr(value) for key, value in session.items()}
