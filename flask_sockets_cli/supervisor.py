"""The process the person has started: owns the listening socket, watches the files, and
has the app served by processes below it. It imports neither the app nor gevent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import signal
import socket
import threading
import time
import types
import typing as t

from .channel import Message
from .environment import files as dotenv_files
from .launching import Gone, Warm
from .logs import notice, say, show_banner, show_routes, urls
from .settings import Settings
from .signals import SIGNALS

if t.TYPE_CHECKING:
    from .changes import Burst, Changes, Lost
    from .watching import Event

#: Seconds that a server gets on top of the grace period before it is killed.
_MARGIN = 0.25
#: Seconds of loading the app from which on slow imports are worth a word.
_SLOW_LOAD = 0.3
#: Seconds in which a second signal to end is the first one once more: programs that
#: start others pass on the Ctrl-C that the terminal has sent to all of them anyway.
_SAME_REQUEST = 0.1

#: In the inbox: where events of files come from.
_FILES = object()


class Stop(t.NamedTuple):
    """In the inbox: the person wants it to end."""


class Supervisor:
    """Keeps the app served until it is told to stop.

    Whatever happens comes as an item of one inbox and is dealt with by one thread, so
    there is nothing to lock. None of it waits for anything but the next item.

    :param settings: what the command was asked for.
    :param listener: the bound and listening socket. It stays open while the processes
        that accept from it come and go, so no connection is ever refused.
    :param forks: whether processes can be forked.
    """

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        forks: bool = hasattr(os, "fork"),
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._forks = forks
        # A signal's handler puts into it while this thread may be reading from it,
        # which is what a SimpleQueue allows and a Queue does not.
        self._inbox: queue.SimpleQueue[tuple[object, object]] = queue.SimpleQueue()
        self._status: int | None = None

        self._warm: Warm | None = None
        self._warm_files: set[str] | None = None
        self._server: t.Literal["none", "loading", "serving", "stopping"] = "none"
        self._load_wanted = True
        self._renew_warm = False
        self._kill_at: float | None = None
        self._crash: str | None = None
        self._serves_crash = False
        self._first = True
        self._stopping_since: float | None = None
        self._pin: str | None = None
        self._routes: list[list[str]] | None = None
        self._advised: set[str] = set()

        self._changes: Changes | None = None
        self._reload_since: float | None = None

    def run(self) -> int:
        """Serve. Return the exit status."""
        with self._signals():
            try:
                self._start_warm()

                if self._settings.reload:
                    self._start_watching()

                self._go_on()

                while self._status is None:
                    self._step()
            finally:
                self._end()

        return self._status or 0

    # The loop

    def _step(self) -> None:
        """Wait for the next thing to happen and deal with it."""
        try:
            source, item = self._inbox.get(timeout=self._seconds_left())
        except queue.Empty:
            source = item = None

        if isinstance(item, Stop):
            self._stop()
        elif source is _FILES and self._changes is not None:
            self._changes.take(t.cast("Event | Lost", item))
        elif source is self._warm and isinstance(item, Gone):
            self._warm_ended()
        elif source is self._warm and isinstance(item, dict):
            self._listen_to(item)

        if self._changes is not None and self._inbox.empty():
            self._changes.settle()

        now = time.monotonic()

        if self._kill_at is not None and now >= self._kill_at:
            self._kill_server()

        due = self._changes_due()

        if self._changes is not None and due is not None and now >= due:
            self._act(self._changes.fetch())

    def _changes_due(self) -> float | None:
        return None if self._changes is None else self._changes.due

    def _seconds_left(self) -> float | None:
        moments = [at for at in (self._kill_at, self._changes_due()) if at is not None]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _listen_to(self, message: Message) -> None:
        match message["event"]:
            case "ready":
                self._warm_files = {*message["files"], *message["imported"]}
                self._learn(message["files"], ())
            case "read":
                self._learn(message["files"], ())
            case "loaded":
                self._server_loaded(message)
            case "failed":
                self._status = 1
            case "exited":
                self._server_ended(message["status"])

    # The processes below

    def _start_warm(self) -> None:
        self._renew_warm = False
        self._warm_files = None
        self._warm = Warm(
            self._listener, self._forks, self._settings.preload, self._inbox
        )

    def _go_on(self) -> None:
        """No server is left: end, or start the next one if one is wanted."""
        if self._stopping_since is not None:
            self._status = 0
        elif self._load_wanted:
            self._load_wanted = False

            if self._renew_warm and self._warm is not None:
                self._warm.end()
                self._warm = None

            if self._warm is None:
                self._start_warm()
                assert self._warm is not None

            self._server = "loading"
            self._warm.send(
                do="load",
                settings=dataclasses.asdict(self._settings),
                first=self._first,
                crash=self._crash,
            )
            self._serves_crash = self._crash is not None
            self._crash = None

    def _server_loaded(self, message: Message) -> None:
        self._learn(message["files"], message["imported"])

        if self._server != "loading" or self._is_outdated():
            return  # it is being stopped, or about to be, for the sake of a later edit

        assert self._warm is not None
        self._warm.send(do="serve")
        self._server = "serving"
        problem = message["error"]
        routes = message["websocket_routes"]

        if self._changes is not None:
            self._changes.watch_live(message["live_directories"])

        if self._first:
            self._first = False
            show_banner(
                self._settings.app,
                self._settings.debug,
                self._settings.host,
                self._settings.port,
                self._settings.certificate is not None,
                None if routes is None else len(routes),
            )

            if self._settings.open:
                _open_browser(self._settings)

            if self._changes is not None:
                notice(f"Reloading with {self._changes.watcher}")

            if message["debugger"]:
                notice("Debugger is active!")
        elif problem is None and self._reload_since is not None:
            elapsed = time.monotonic() - self._reload_since
            notice(f"Reloaded in {elapsed * 1000:.0f} ms")

        self._reload_since = None

        if self._settings.routes and routes not in (None, self._routes):
            self._routes = routes
            show_routes(routes)

        if message["debugger"] and message["pin"] != self._pin:
            self._pin = message["pin"]
            notice(f"Debugger PIN: {self._pin}")

        if problem is not None:
            notice(f"The app could not be loaded ({problem}). Waiting for a change.")
        elif self._forks and self._settings.reload:
            self._advise(message["seconds"], message["slow_imports"])

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

    def _server_ended(self, status: int | None) -> None:
        """A server's process is gone.

        :param status: its exit status, negative for a signal, ``None`` if unknown.
        """
        was = self._server
        self._server = "none"
        self._kill_at = None

        if was in ("serving", "loading") and not self._load_wanted:
            self._server_crashed(_describe_end(status))

        if self._status is None:
            self._go_on()

    def _server_crashed(self, reason: str) -> None:
        if not self._settings.reload:
            say(f"Error: {reason}")
            self._status = 1
        elif not self._serves_crash:
            # Its place is taken by one that tells so, until a change may mend it.
            self._crash = reason
            self._load_wanted = True
        else:
            notice(f"{reason} Waiting for a change.")

    def _warm_ended(self) -> None:
        assert self._warm is not None
        self._warm.end()
        self._warm = None

        if self._warm_files is None and self._server != "stopping":
            # It did not get as far as to serve, and would not the next time. Why, it
            # has told in the terminal.
            self._status = 1
        else:
            self._server_ended(None)

    def _stop_server(self, code: int, reason: str) -> None:
        """Have the server end, or go on at once if there is none."""
        if self._server == "none" or self._warm is None:
            self._go_on()
        elif self._server == "loading":
            # It has no connection yet, and hears nothing before it has loaded.
            self._server = "stopping"
            self._kill_server()
        elif self._server == "serving":
            self._server = "stopping"
            self._kill_at = time.monotonic() + self._settings.grace + _MARGIN
            self._warm.send(do="stop", code=code, reason=reason)

    def _kill_server(self) -> None:
        self._kill_at = None

        if self._warm is not None:
            self._warm.kill_server()

    def _stop(self) -> None:
        now = time.monotonic()

        if self._stopping_since is not None:
            if now - self._stopping_since > _SAME_REQUEST:
                self._status = 0  # asked twice: at once

            return

        self._stopping_since = now
        self._stop_watching()
        self._stop_server(1001, "server stopping")

    def _end(self) -> None:
        self._stop_watching()

        if self._warm is not None:
            self._warm.end()

    @contextlib.contextmanager
    def _signals(self) -> t.Iterator[None]:
        """Turn the signals that end a program into items of the inbox."""

        def put(number: int, frame: types.FrameType | None) -> None:
            self._inbox.put((None, Stop()))

        before = {number: signal.getsignal(number) for number in SIGNALS}

        for number in SIGNALS:
            # Ignored ones stay so: that is how 'nohup' and a script's '&' work.
            if before[number] != signal.SIG_IGN:
                signal.signal(number, put)

        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # The files

    def _start_watching(self) -> None:
        # Not before the warm process is on its way, which takes longer.
        from .changes import Changes

        self._changes = Changes(
            self._settings.app,
            (*self._settings.extra_files, *dotenv_files()),
            self._settings.exclude_patterns,
            lambda event: self._inbox.put((_FILES, event)),
            lambda warning: say(warning, "bold", "yellow"),
        )

    def _learn(self, read: dict[str, str], imported: t.Iterable[str]) -> None:
        if self._changes is not None:
            self._changes.learn(read, imported)

    def _is_outdated(self) -> bool:
        """Whether code has changed that is to be loaded next."""
        return self._changes is not None and self._changes.has_code

    def _stop_watching(self) -> None:
        if self._changes is not None:
            self._changes.stop()
            self._changes = None

    def _act(self, burst: Burst) -> None:
        """Do what files that have changed ask for."""
        if burst.code:
            self._reload(burst)
        elif burst.live and self._warm is not None:
            notice(f"Detected change in {_describe_files(burst.live)}, reloading pages")
            self._warm.send(do="live")

    def _reload(self, burst: Burst) -> None:
        """Load the app again."""
        notice(f"Detected change in {_describe_files(burst.code)}, reloading")

        if self._warm_files is None or not self._warm_files.isdisjoint(burst.code):
            self._renew_warm = True

        self._reload_since = burst.since
        self._load_wanted = True
        self._stop_server(1012, "reloading")


def _describe_files(paths: t.Collection[str]) -> str:
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{os.path.relpath(next(iter(paths)))!r}{others}"


def _describe_end(status: int | None) -> str:
    if status is None:
        return "The server's process ended unexpectedly."

    if status >= 0:
        return f"The server's process ended by itself, with status {status}."

    return f"The server's process was ended by {signal.Signals(-status).name}."


def _open_browser(settings: Settings) -> None:
    """Open the app in a browser, whose command may last as long as the browser."""
    import webbrowser

    scheme = "https" if settings.certificate is not None else "http"
    url = urls(scheme, settings.host, settings.port)[0]

    def run() -> None:
        if not webbrowser.open(url):
            notice(f"No browser could be opened for {url}")

    threading.Thread(target=run, daemon=True).start()
