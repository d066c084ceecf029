"""What the command was asked for, as it travels from one process to the next."""

from __future__ import annotations

import dataclasses

#: What a host starts with that is the path of a socket, as for ``flask run``.
UNIX = "unix://"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything the processes below the command need to know.

    Only what JSON can carry, since it travels to another interpreter.
    """

    #: The import path of the app, as ``flask --app`` takes it.
    app: str | None
    #: Whether that is the import path of a ``FlaskGroup``, which makes the app.
    is_group: bool
    #: Whether ``app.debug`` follows ``FLASK_DEBUG``.
    set_debug_flag: bool
    #: Debug mode, as the banner tells it.
    debug: bool
    #: The host the person asked for, as opposed to the address it stands for, or
    #: ``unix://`` and the path of a socket.
    host: str
    #: The port, which means nothing for a socket with a path.
    port: int
    #: A certificate and its key, both paths of PEM files, or ``None`` for plain HTTP.
    certificate: tuple[str, str] | None
    #: Whether a change of a file reloads the app.
    reload: bool
    #: Whether Werkzeug's debugger answers for exceptions.
    debugger: bool
    #: Whether open pages are reloaded, too.
    live: bool
    #: Files, directories and globs that reload the app as its modules do.
    extra_files: tuple[str, ...]
    #: Patterns of paths that never count.
    exclude_patterns: tuple[str, ...]
    #: Whether files are looked at again and again, instead of waiting to be told.
    poll: bool
    #: Seconds that open WebSockets and requests get before they are cut.
    grace: float
    #: Third-party modules that are imported once, in the process servers are forked of.
    preload: tuple[str, ...]
    #: Whether what the app imports is learned, and kept imported as well.
    learn: bool
    #: Whether the WebSocket routes are listed.
    routes: bool
    #: Whether keys that are pressed in the terminal mean something.
    keys: bool
    #: Whether a browser is opened once the first server is there.
    open: bool
    #: The values that came from files of variables, so that a reload can take them back
    #: before it reads the files again.
    dotenv: dict[str, str]
    #: Whether ``.env`` and ``.flaskenv`` are among these files.
    dotenv_defaults: bool
    #: The real path of another one, as ``flask --env-file`` takes it.
    env_file: str | None
