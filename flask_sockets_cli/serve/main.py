"""The life of a serving process: it loads the app, says so, serves when it is told to
serve, and ends when it is told to stop.

The standard library is patched before this module is imported.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import os
import socket
import sys
import traceback
import typing as t

from flask import Flask
from flask.cli import NoAppException

from ..channel import Channel, Message
from ..dotenv_files import read_again
from ..import_steps import to_json, worth_learning
from ..keyboard import release
from ..process_names import SERVES, name_process
from ..settings import Settings
from ..terminal import notice
from ._python import say_farewells
from .failures import explain, told_of
from .forks import leave_serving_to_this_process
from .fresh_imports import imported_files, lacks_files, read_afresh
from .hosts import TrustedHosts, only_for
from .imports import Imports
from .kept import Kept
from .loading import load, wrap
from .lookout import Lookout
from .prompts import keep_answers_from_the_command
from .server import Server

if t.TYPE_CHECKING:
    from .pages import Pages


def main(
    order: Message,
    listener: socket.socket,
    commands: Channel,
    reports: Channel,
    kept: Kept | None = None,
) -> t.NoReturn:
    """Serve, then end the process at once.

    What an interpreter does when it ends takes longer than all the rest of a reload,
    and would wait for the app's threads. The app's own farewells are said.

    The parameters are those of :func:`serve`.
    """
    name_process(SERVES)
    status = 1

    try:
        status = serve(order, listener, commands, reports, kept)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        say_farewells()

        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()

        os._exit(status)


def serve(
    order: Message,
    listener: socket.socket,
    commands: Channel,
    reports: Channel,
    kept: Kept | None,
) -> int:
    """Load the app, tell so, and serve it from when told to until told to stop.

    :param order: ``settings`` are those of :class:`Settings`, ``first`` says whether
        nothing has been served yet, ``crash`` why the last server is gone, if a page
        that says so is to be served in place of the app.
    :param listener: the listening socket, which other processes hold as well.
    :param commands: where the orders to serve and to stop come from.
    :param reports: where to tell what was loaded.
    :param kept: what has been imported for the app already.
    :return: the exit status.
    """
    # Sequences have become lists on the way, which serve as well.
    settings = Settings(**order["settings"])
    read: dict[str, str] = {}
    loaded = False

    if settings.reload:
        # Apps ask for this to start their schedulers and the like once, and not in a
        # process that only watches.
        os.environ["WERKZEUG_RUN_MAIN"] = "true"

    def tell(path: str, digest: str) -> None:
        if loaded:  # an import inside of a function
            reports.send(event="read", files={path: digest})
        else:
            read[path] = digest

    def give_up(name: str, reason: str) -> t.NoReturn:
        # The supervisor has another process load the app.
        reports.send(event="unfit", name=name, reason=reason)

        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()

        os._exit(0)

    read_afresh(tell)
    leave_serving_to_this_process(listener, commands, reports)
    lookout = Lookout()

    if settings.keys:
        keep_answers_from_the_command()

    if settings.debug:
        with contextlib.suppress(ValueError, OSError, RuntimeError):  # no stderr
            faulthandler.enable()

    if not order["first"] and order["crash"] is None:
        read_again(settings.dotenv, settings.env_file, settings.dotenv_defaults)

    kept = kept or Kept()
    kept.start()

    with Imports(kept, give_up) as imports:
        app, failure = load(settings, order["crash"])

        if app is None:
            kept.show_rest()

    if not kept.is_used_up:
        give_up("", "is no longer imported")

    if failure is not None:
        explain(failure)

        if not settings.reload or (
            order["first"] and isinstance(failure, NoAppException)
        ):
            reports.send(event="failed")
            return 1

    application, debugger = wrap(settings, app, failure)
    hosts = TrustedHosts(settings, app)
    pages: Pages | None = None

    if settings.live:
        from .pages import Pages

        problem = None if failure is None else told_of(failure, settings.debugger)
        application = pages = Pages(application, app, hosts, problem)

    if settings.debug:
        application = only_for(hosts, application)

    server = Server(listener, application, settings)
    loaded = True
    lookout.loaded()
    reports.send(
        event="loaded",
        files=read,
        imported=imported_files(),
        page_directories=[] if pages is None else pages.directories(),
        load={
            "error": None if failure is None else type(failure).__name__,
            "websocket_routes": None if app is None else _websocket_routes(app),
            "seconds": imports.total,
            "slow_imports": imports.slowest(),
            "debugger": debugger is not None,
            "pin": None if debugger is None else debugger.pin,
        },
        steps=to_json(imports.steps)
        if settings.learn and app is not None and worth_learning(imports.new)
        else [],
    )
    orders = Orders(server, pages, settings, reports, failure)

    while (messages := commands.receive()) is not None:
        for message in messages:
            if orders.obey(message):
                return 0

    release()
    return 0  # the supervisor is gone


@dataclasses.dataclass(frozen=True)
class Orders:
    """Does as the supervisor says."""

    server: Server
    pages: Pages | None
    settings: Settings
    reports: Channel
    #: Why the app could not be loaded.
    failure: BaseException | None

    def obey(self, message: Message) -> bool:
        """Do what a message says.

        :return: whether that was the last one.
        """
        match message["do"]:
            case "serve":
                # Not before it is known above that this server has loaded: until then
                # it may be killed, for the sake of a later edit.
                self.server.start()
            case "reload_pages" if self.pages is not None:
                self.pages.changed(message["paths"])
            case "compare":
                if message["links"] or self._needs(message["modules"]):
                    self._tell_outdated("installation", message["installed"])
                elif message["removed"] and (self._needs(()) or lacks_files()):
                    self._tell_outdated("removal", message["removed"])
            case "stop":
                tell = _tell_waiting if message["ends"] else _tell_nothing
                self.server.drain(message["reason"], self.settings.grace, tell)
                return True

        return False

    def _tell_outdated(self, change: str, titles: list[str]) -> None:
        self.reports.send(event="outdated", change=change, titles=titles)

    def _needs(self, modules: t.Collection[str]) -> bool:
        """Whether another version of modules, or their being there, makes a difference.

        :param modules: their names, at the top level.
        """
        if not sys.modules.keys().isdisjoint(modules):
            return True

        if isinstance(self.failure, ModuleNotFoundError) and self.failure.name:
            return self.failure.name.partition(".")[0] in modules

        return self.failure is not None


def _tell_waiting(waited_for: str) -> None:
    notice(f"Waiting for {waited_for} (Ctrl-C again to cut them)")


def _tell_nothing(waited_for: str) -> None:
    """The next server is on its way, and Ctrl-C would end that one, too."""


def _websocket_routes(app: Flask) -> list[tuple[str, str, str]]:
    """The endpoint, the host or subdomain, and the rule of each, by endpoint."""
    return sorted(
        (rule.endpoint, rule.host or rule.subdomain or "", rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.websocket
    )
