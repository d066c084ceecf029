"""The process the person has started: owns the listening socket, watches the files, and
has the app served by processes below it. It imports neither the app nor gevent.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import queue
import socket
import sys
import time
import typing as t

from .channel import Message
from .dotenv_files import files as dotenv_files
from .import_steps import from_json
from .interpreter import Interpreter
from .keyboard import Keys
from .process_names import WATCHES, name_process
from .settings import UNIX, Settings
from .signals import handled
from .terminal import (
    Display,
    Loaded,
    describe_end,
    keep_terminal,
    notice,
    open_browser,
    say,
    show_keys,
    warn,
)
from .warm_pair import WarmPair
from .warm_process import Gone

if t.TYPE_CHECKING:
    from .watch.changes import Burst, Changes
    from .watch.events import Event, Lost
    from .watch.installed import Found

#: Seconds that a server gets on top of the grace period before it is killed.
_MARGIN = 0.25
#: Seconds in which a second signal to end is the first one once more: programs that
#: start others pass on the Ctrl-C that the terminal has sent to all of them anyway.
_SAME_REQUEST = 0.1

#: Seconds after which Windows is asked whether Ctrl-C has come, which it does not tell
#: somebody who waits.
_LONGEST_WAIT = 0.5 if sys.platform == "win32" else None

_NO_PRELOAD = (
    "Modules can't be kept imported here ('--preload'), since no server is forked, or"
    " since macOS may end processes that are forked with them."
)

#: In the inbox: where events of files come from.
_FILES = object()
#: In the inbox: where keys come from that the person presses.
_KEYBOARD = object()


class Stop(t.NamedTuple):
    """In the inbox: the person wants the command to end."""


class State(enum.Enum):
    """What a server is doing."""

    LOADING = enum.auto()
    SERVING = enum.auto()
    STOPPING = enum.auto()


@dataclasses.dataclass(frozen=True)
class Load:
    """What a server is to serve: the app, or a page that says what has become of it."""

    #: Why the last server is gone, if a page is to say so in place of the app.
    crash: str | None = None


@dataclasses.dataclass
class Server:
    """A process that serves, as far as the supervisor has to know it."""

    load: Load
    state: State = State.LOADING
    #: What it has told of its load, if files have changed meanwhile. It waits until
    #: it is known whether they hold something else.
    loaded: Message | None = None
    #: When it is killed, in the terms of :func:`time.monotonic`.
    kill_at: float = math.inf


class Supervisor:
    """Keeps the app served until it is told to stop.

    Whatever happens comes as an item of one inbox and is dealt with by one thread, so
    there is nothing to lock. That thread waits for nothing but the next item.

    :param settings: what the command was asked for.
    :param listener: the bound and listening socket. It stays open while the processes
        that accept from it come and go, so no connection is ever refused.
    :param interpreter: what becomes the first warm process.
    """

    def __init__(
        self, settings: Settings, listener: socket.socket, interpreter: Interpreter
    ) -> None:
        # A signal's handler puts into it while this thread may be reading from it,
        # which is what a SimpleQueue allows and a Queue does not.
        self._inbox: queue.SimpleQueue[tuple[object, object]] = queue.SimpleQueue()
        self._warm = WarmPair(settings, listener, interpreter, self._inbox)
        self._settings = dataclasses.replace(settings, learn=self._warm.learns)
        self._display = Display(self._settings, self._warm.keeps_libraries)
        self._restore_terminal = keep_terminal()
        self._keys: Keys | None = None
        self._changes: Changes | None = None

        if settings.keys and Keys.are_there():
            self._keys = Keys(lambda key: self._inbox.put((_KEYBOARD, key)))

        self._server: Server | None = None
        #: What the next server is for, once there is room for one.
        self._wanted: Load | None = Load()
        self._has_served = False
        self._stopping_since: float | None = None
        #: The exit status, which ends the loop.
        self._status: int | None = None

    def run(self) -> int:
        """Serve. Return the exit status."""
        name_process(WATCHES)

        if self._settings.preload and not self._warm.keeps_libraries:
            warn(_NO_PRELOAD)

        with handled(lambda: self._inbox.put((None, Stop()))):
            try:
                self._warm.start()

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
        elif source is _KEYBOARD:
            self._press(str(item))
        elif source is not None and source is self._warm.present:
            self._listen_to(t.cast("Message | Gone", item))
        elif source is not None and source is self._warm.learner:
            self._listen_to_learner(t.cast("Message | Gone", item))

        if self._changes is not None and self._inbox.empty():
            self._changes.settle()

            if self._has_time_for_files():
                self._changes.get_to_know()

        now = time.monotonic()

        if now >= self._kill_at():
            self._kill_server()

        if self._changes is not None and now >= self._changes_due():
            self._act(self._changes.fetch())

    def _has_time_for_files(self) -> bool:
        """Whether files are yet to be read, and nobody waits for the app."""
        return (
            self._changes is not None
            and not self._changes.knows_all
            and self._server is not None
            and self._server.state is State.SERVING
        )

    def _seconds_left(self) -> float | None:
        if self._has_time_for_files():
            return 0

        due = min(self._kill_at(), self._changes_due())
        return _LONGEST_WAIT if due == math.inf else max(0.0, due - time.monotonic())

    def _kill_at(self) -> float:
        return math.inf if self._server is None else self._server.kill_at

    def _changes_due(self) -> float:
        return math.inf if self._changes is None else self._changes.due

    def _listen_to(self, message: Message | Gone) -> None:
        """Deal with what the process says that servers are forked of."""
        assert self._warm.present is not None

        if isinstance(message, Gone):
            self._warm_ended()
            return

        match message["event"]:
            case "ready":
                self._warm.present.take(message)
                self._learn(message["files"], ())
            case "trying" | "left_out":
                self._warm.present.take(message)
            case "unfit":
                self._server_unfit(message["name"], message["reason"])
            case "read":
                self._learn(message["files"], ())
            case "loaded":
                self._server_loaded(message)
            case "outdated":
                self._reload_for(message["change"], message["titles"])
            case "failed":
                self._status = 1
            case "exited":
                self._server_ended(message["status"])

    def _listen_to_learner(self, message: Message | Gone) -> None:
        assert self._warm.learner is not None

        if isinstance(message, Gone):
            self._warm.replace_learner()
            return

        self._warm.learner.take(message)

        if message["event"] == "ready":
            self._warm.remember()
            self._display.keeping(self._warm.learner.steps)

    # The processes below

    def _go_on(self) -> None:
        """No server is left: end, or start the next one if one is wanted."""
        if self._stopping_since is not None:
            self._status = 0
        elif self._wanted is not None:
            self._server, self._wanted = Server(self._wanted), None
            self._warm.for_next_load().send(
                do="load",
                settings=dataclasses.asdict(self._settings),
                first=not self._has_served,
                crash=self._server.load.crash,
            )

    def _server_loaded(self, message: Message) -> None:
        self._learn(message["files"], message["imported"])
        server = self._server

        if server is None or server.state is not State.LOADING:
            return  # it is being stopped, for the sake of a later edit

        if self._is_outdated():
            server.loaded = message
        else:
            self._serve(server, message)

    def _serve(self, server: Server, message: Message) -> None:
        """Let a server serve what it has loaded."""
        warm = self._warm.present
        assert warm is not None
        warm.send(do="serve")
        server.state = State.SERVING
        self._has_served = True
        way = None

        if self._changes is not None:
            # While the server starts to serve. What is left is done later.
            self._changes.get_to_know()
            self._changes.watch_pages(message["page_directories"])
            way = self._changes.way

        self._display.loaded(Loaded(**message["load"]), way)
        self._claim_keys()

        self._display.keeping(warm.steps)
        self._warm.note_load(from_json(message["steps"]))

    def _server_unfit(self, name: str, reason: str) -> None:
        """A server has found that what it was to load is not what was learned: have it
        loaded by a process that has imported nothing for it.
        """
        self._warm.note_unfit(name, reason)

        if self._server is not None and self._server.state is State.LOADING:
            self._server.state = State.STOPPING
            self._wanted = self._server.load

    def _server_ended(self, status: int | None) -> None:
        """A server's process is gone.

        :param status: its exit status, negative for a signal, ``None`` if unknown.
        """
        server, self._server = self._server, None
        self._restore_terminal()

        if (
            server is not None
            and server.state is not State.STOPPING
            and self._wanted is None
        ):
            self._server_crashed(server.load, describe_end(status))

        if self._status is None:
            self._go_on()

    def _server_crashed(self, load: Load, reason: str) -> None:
        if not self._settings.reload:
            say(f"Error: {reason}")
            self._status = 1
        elif load.crash is None:
            # A server that tells so takes its place, until a change may mend it.
            self._wanted = Load(crash=reason)
        else:
            notice(f"{reason} Waiting for a change.")
            self._claim_keys()

    def _warm_ended(self) -> None:
        lost = self._warm.lose_present()
        was_ready = lost.files is not None
        is_stopping = self._server is not None and self._server.state is State.STOPPING

        if was_ready or is_stopping:
            self._server_ended(None)
        elif self._warm.note_end(lost):
            # What earlier runs have learned is true no longer.
            self._wanted = Load() if self._server is None else self._server.load
            self._go_on()
        else:
            # The process did not get as far as to serve, and would not the next time.
            # It has said why in the terminal.
            self._status = 1

    def _stop_server(self, reason: str) -> None:
        """Have the server end, or go on at once if there is none.

        :param reason: the close reason for the WebSockets.
        """
        warm = self._warm.present

        if self._server is None or warm is None:
            self._go_on()
        elif self._server.state is State.LOADING:
            # The server has no connection yet, and hears nothing before it has loaded.
            self._server.state = State.STOPPING
            self._kill_server()
        elif self._server.state is State.SERVING:
            self._server.state = State.STOPPING
            self._server.kill_at = time.monotonic() + self._settings.grace + _MARGIN
            ends = self._stopping_since is not None
            warm.send(do="stop", reason=reason, ends=ends)

    def _kill_server(self) -> None:
        if self._server is not None:
            self._server.kill_at = math.inf

        if self._warm.present is not None:
            self._warm.present.kill_server()

    def _stop(self) -> None:
        now = time.monotonic()

        if self._stopping_since is not None:
            if now - self._stopping_since > _SAME_REQUEST:
                self._status = 0  # asked twice: at once

            return

        self._stopping_since = now
        self._stop_watching()

        if self._warm.present is not None and self._warm.present.files is None:
            self._status = 0  # nobody has been served, and it listens to nobody
        else:
            self._stop_server("server stopping")

    def _end(self) -> None:
        self._stop_watching()

        self._warm.end()

        if self._keys is not None:
            self._keys.stop()

        self._restore_terminal()

    # The keyboard

    def _claim_keys(self) -> None:
        if self._keys is not None:
            self._keys.claim()

    def _press(self, key: str) -> None:
        """Do what a key means that the person has pressed."""
        match key:
            case "r" if self._stopping_since is None:
                self._display.restarting(time.monotonic())
                self._warm.expire()
                self._load_again()
            case "o" if self._settings.host.startswith(UNIX):
                notice("Browsers open no socket by its path.")
            case "o":
                open_browser(self._settings)
            case "q":
                self._stop()
            case "?" | "h":
                show_keys()
            case "\n":
                say("")  # to part what comes from what has been

    # The files

    def _start_watching(self) -> None:
        # Not before the warm process is on its way, which takes longer.
        from .watch.changes import Changes

        self._changes = Changes(
            self._settings.app,
            (*self._settings.extra_files, *self._dotenv_files()),
            self._settings.exclude_patterns,
            self._settings.poll,
            lambda event: self._inbox.put((_FILES, event)),
            warn,
        )

    def _dotenv_files(self) -> list[str]:
        return dotenv_files(self._settings.env_file, self._settings.dotenv_defaults)

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
        if burst.libraries.installed or burst.libraries.removed:
            self._libraries_changed(burst.libraries)

        if burst.code:
            self._reload(burst)
            return

        if burst.pages and self._warm.present is not None:
            self._display.reloading_pages(burst.pages)
            self._warm.present.send(do="reload_pages", paths=burst.pages)

        server = self._server

        if server is not None and server.loaded is not None and not self._is_outdated():
            # The files are as they were when it read them.
            message, server.loaded = server.loaded, None

            if server.state is State.LOADING:
                self._serve(server, message)

    def _reload(self, burst: Burst) -> None:
        """Load the app again."""
        self._display.reloading(burst.code, burst.since)
        self._warm.note_changes(burst.code)
        self._load_again()

    def _load_again(self) -> None:
        self._wanted = Load()
        self._warm.note_libraries()
        self._stop_server("reloading")

    # The libraries

    def _libraries_changed(self, found: Found) -> None:
        """Load the app again if it uses libraries that have been installed or removed,
        or if that is what it is missing: the server knows.
        """
        titles = [installation.title for installation in found.installed]
        modules = {
            name for installation in found.installed for name in installation.modules
        }

        # They may have imported these, too, and know no new path.
        self._warm.expire()

        if self._server is not None and self._warm.present is not None:
            self._warm.present.send(
                do="compare",
                installed=titles,
                removed=found.removed,
                modules=sorted(modules),
                links=any(installation.is_link for installation in found.installed),
            )
        elif titles:
            self._reload_for("installation", titles)
        else:
            self._reload_for("removal", found.removed)

    def _reload_for(self, change: str, titles: list[str]) -> None:
        """Load the app again for the sake of libraries.

        :param change: what has happened to them.
        :param titles: the name and the version of each.
        """
        if self._stopping_since is None and self._wanted is None:
            self._display.reloading_for(change, titles, time.monotonic())
            self._load_again()
