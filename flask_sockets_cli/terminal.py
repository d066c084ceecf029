"""What the person sees: the banner, notices, warnings, and a browser.

The lines of the access log are the server's, in ``serve/access_log.py``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
import typing as t

from .import_steps import Step, names_of
from .keyboard import Keys
from .settings import UNIX, Settings

#: Seconds of loading the app from which on slow imports are worth a word.
_SLOW_LOAD = 0.3

#: How many libraries are named of those that are kept imported.
_MOST_NAMES = 5

_STYLES = {"bold": 1, "red": 31, "green": 32, "yellow": 33, "magenta": 35, "cyan": 36}

_DEVELOPMENT_WARNING = (
    "WARNING: This is a development server. Do not use it in a production deployment."
    " Use gunicorn with 'flask_sockets.worker' instead."
)


def styled(text: str, *styles: str) -> str:
    """Text with colours, where the terminal shows them and nobody minds (NO_COLOR)."""
    if os.environ.get("NO_COLOR") or sys.stderr is None or not sys.stderr.isatty():
        return text

    # The last style comes first, as in Werkzeug's lines.
    codes = "".join(f"\x1b[{_STYLES[style]}m" for style in reversed(styles))
    return f"{codes}{text}\x1b[0m" if codes else text


def say(text: str, *styles: str) -> None:
    """Write a line for the person, if there is anything to write to."""
    if sys.stderr is None:
        return

    try:
        sys.stderr.write(styled(text, *styles) + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # the terminal is gone, and the signal that says so is on its way


def notice(text: str) -> None:
    """Write a line in the way of Flask's own notices."""
    say(f" * {text}")


def warn(text: str) -> None:
    """Write a line that is not to be overlooked."""
    say(text, "bold", "yellow")


class Loaded(t.NamedTuple):
    """What a server tells of its load of the app."""

    #: The name of the exception that prevented the app from being loaded.
    error: str | None
    #: The endpoint, the host or subdomain, and the rule of each WebSocket route.
    websocket_routes: list[list[str]] | None
    #: How long the app took to load.
    seconds: float
    #: The libraries that took longest, with the seconds of each.
    slow_imports: list[tuple[str, float]]
    #: Whether there is a debugger.
    debugger: bool
    #: The PIN of the debugger, if it has one.
    pin: str | None


class Display:
    """Tells the person what happens to the app, and remembers what was told.

    :param settings: what the command was asked for.
    :param keeps_libraries: whether they can be kept imported for the next server.
    """

    def __init__(self, settings: Settings, keeps_libraries: bool) -> None:
        self._settings = settings
        self._keeps_libraries = keeps_libraries
        self._banner_shown = False
        self._routes: list[list[str]] | None = None
        self._pin: str | None = None
        self._advised: set[str] = set()
        self._has_told_what_is_kept = False
        self._reload_since: float | None = None

    def loaded(self, load: Loaded, way: str | None) -> None:
        """Tell that a server serves the app, or a page that says why there is none.

        :param way: how files are watched, ``None`` if they are not.
        """
        if not self._banner_shown:
            self._banner_shown = True
            self._show_start(load, way)
        elif load.error is None and self._reload_since is not None:
            elapsed = time.monotonic() - self._reload_since
            notice(f"Reloaded in {elapsed * 1000:.0f} ms")

        self._reload_since = None
        routes = load.websocket_routes

        if self._settings.routes and routes is not None and routes != self._routes:
            self._routes = routes
            show_routes(routes)

        if load.debugger and load.pin != self._pin:
            self._pin = load.pin
            notice(f"Debugger PIN: {self._pin}")

        if load.error is not None:
            notice(f"The app could not be loaded ({load.error}). Waiting for a change.")
        elif (
            self._keeps_libraries and self._settings.reload and not self._settings.learn
        ):
            self._advise(load.seconds, load.slow_imports)

    def reloading(self, paths: t.Collection[str], since: float) -> None:
        """Tell that the app is loaded again.

        :param paths: the files that have changed.
        :param since: when the first one did, in the terms of :func:`time.monotonic`.
        """
        notice(f"Detected change in {_describe_files(paths)}, reloading")
        self._reload_since = since

    def restarting(self, since: float) -> None:
        """Tell that the app is loaded again, since the person wants it.

        :param since: as for :meth:`reloading`.
        """
        notice("Restarting")
        self._reload_since = since

    def reloading_for(
        self, change: str, libraries: t.Sequence[str], since: float
    ) -> None:
        """Tell that the app is loaded again for the sake of libraries.

        :param change: what has happened to them: their installation or removal.
        :param libraries: the name and the version of each.
        :param since: as for :meth:`reloading`.
        """
        others = f" and {len(libraries) - 1} more" if len(libraries) > 1 else ""
        notice(f"Detected {change} of {libraries[0]}{others}, reloading")
        self._reload_since = since

    def reloading_pages(self, paths: t.Collection[str]) -> None:
        """Tell that open pages are reloaded for the sake of these files."""
        notice(f"Detected change in {_describe_files(paths)}, reloading pages")

    def keeping(self, steps: t.Iterable[Step]) -> None:
        """Tell, once, which libraries are kept imported."""
        names = names_of(steps)

        if self._has_told_what_is_kept or not names:
            return

        self._has_told_what_is_kept = True
        shown = ", ".join(names[:_MOST_NAMES])
        others = len(names) - _MOST_NAMES
        more = f" and {others} more" if others > 0 else ""
        notice(
            f"Keeping imported for the next reloads: {shown}{more}."
            " To import them each time: --no-learn"
        )

    def _show_start(self, load: Loaded, way: str | None) -> None:
        routes = load.websocket_routes
        show_banner(self._settings, None if routes is None else len(routes))

        if self._settings.open:
            open_browser(self._settings)

        if way is not None:
            notice(f"Reloading with {way}")

        if load.debugger:
            notice("Debugger is active!")

    def _advise(self, seconds: float, slow_imports: list[tuple[str, float]]) -> None:
        """Name the imports that make each reload wait, once."""
        names = {name for name, _ in slow_imports}

        if seconds > _SLOW_LOAD and not names <= self._advised:
            self._advised |= names
            costs = ", ".join(
                f"{name} {cost * 1000:.0f} ms" for name, cost in slow_imports
            )
            options = " ".join(f"--preload {name}" for name, _ in slow_imports)
            notice(
                f"Loading the app took {seconds * 1000:.0f} ms, of that {costs}."
                f" To keep them imported: {options}"
            )


def show_banner(settings: Settings, websocket_routes: int | None) -> None:
    """Tell what is served, and where.

    :param websocket_routes: how many there are, ``None`` if that is not known.
    """
    host, port = settings.host, settings.port
    secure = settings.certificate is not None

    if settings.app is not None:
        notice(f"Serving Flask app '{settings.app}'")

    notice(f"Debug mode: {'on' if settings.debug else 'off'}")
    say(_DEVELOPMENT_WARNING, "bold", "red")

    if host in ("0.0.0.0", "::"):
        notice(f"Running on all addresses ({host})")

    for url in urls("https" if secure else "http", host, port):
        notice(f"Running on {url}")

    count = ""

    if websocket_routes is not None:
        count = f" ({websocket_routes} route{'' if websocket_routes == 1 else 's'})"

    last = urls("wss" if secure else "ws", host, port)[-1]
    notice(f"WebSockets on {last}{count}")
    others = ", ? for other keys" if settings.keys and Keys.are_there() else ""
    say(f"Press CTRL+C to quit{others}", "yellow")


def show_keys() -> None:
    """List the keys that the supervisor knows."""
    notice("Keys: r restarts the app, o opens it in a browser, q quits")


def urls(scheme: str, host: str, port: int) -> list[str]:
    """What a browser can open, for a host that may stand for all addresses."""
    if host.startswith(UNIX):
        return [host]

    if host == "0.0.0.0":
        hosts = ["127.0.0.1", _outer_address(socket.AF_INET)]
    elif host == "::":
        hosts = ["::1", _outer_address(socket.AF_INET6)]
    else:
        hosts = [host]

    return [
        f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        for host in dict.fromkeys(hosts)
    ]


def show_routes(rows: t.Sequence[t.Sequence[str]]) -> None:
    """List the WebSocket routes as ``flask routes`` lists all.

    :param rows: for each its endpoint, its host or subdomain, and its rule.
    """
    if not rows:
        notice("No WebSocket routes were registered.")
        return

    table = [("Endpoint", "Domain", "WebSocket rule"), *map(tuple, rows)]

    if not any(domain for _, domain, _ in rows):
        table = [(endpoint, rule) for endpoint, _, rule in table]

    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    table.insert(1, tuple("-" * width for width in widths))

    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        say("   " + "  ".join(cells).rstrip())


def _outer_address(family: socket.AddressFamily) -> str:
    """The address other machines reach this one at."""
    # Connecting a datagram socket sends nothing. It only looks up the route to an
    # address, here one that is private and arbitrary.
    target = "fd00::1" if family == socket.AF_INET6 else "10.0.0.1"

    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((target, 9))
        except OSError:
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"

        return str(sock.getsockname()[0])


def describe_end(status: int | None) -> str:
    """The sentence for a server's process that has ended by itself.

    :param status: its exit status, negative for a signal, ``None`` if unknown.
    """
    if status is None:
        return "The server's process ended unexpectedly."

    if status >= 0:
        return f"The server's process ended by itself, with status {status}."

    return f"The server's process was ended by {signal.Signals(-status).name}."


def _describe_files(paths: t.Collection[str]) -> str:
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{shown_path(next(iter(paths)))!r}{others}"


def shown_path(path: str) -> str:
    """A path as short as the person would write it."""
    try:
        return os.path.relpath(path)
    except (OSError, ValueError):
        return path  # the current directory is gone, or on another drive


def keep_terminal() -> t.Callable[[], None]:
    """Return a function that gives the terminal the settings back which it has now.

    A process that is ended while it asks something leaves the terminal without an echo.
    """
    try:
        import termios

        settings = termios.tcgetattr(0)
    except (ImportError, OSError, termios.error):
        return lambda: None  # no terminal

    def restore() -> None:
        with contextlib.suppress(OSError, termios.error):
            # In the background the terminal is another program's.
            if os.tcgetpgrp(0) == os.getpgrp():
                termios.tcsetattr(0, termios.TCSANOW, settings)

    return restore


def open_browser(settings: Settings) -> None:
    """Open the app in a browser, whose command may last as long as the browser."""
    import webbrowser

    scheme = "https" if settings.certificate is not None else "http"
    url = urls(scheme, settings.host, settings.port)[0]

    def run() -> None:
        if not webbrowser.open(url):
            notice(f"No browser could be opened for {url}")

    threading.Thread(target=run, daemon=True).start()
