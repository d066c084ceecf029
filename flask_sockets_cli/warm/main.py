"""The life of the warm process: it patches the standard library, imports the framework,
and then forks a server for each load of the app. Such a server has little left to do.

The warm process runs no code of the app and has a single thread whenever it forks. So
it is never stuck. Where there is no fork it becomes the server itself, and the
supervisor starts another one for the next load.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import sys
import typing as t

from ..channel import Channel, Message
from ..process_names import KEEPS_WARM, name_process
from ..signals import leave_to_supervisor
from .forker import Forker, Serve

if t.TYPE_CHECKING:
    from collections.abc import Iterable

    from ..serve.kept import Kept


def main(places: tuple[int, ...], forks: bool) -> None:
    """Warm up, then do as the supervisor says until it is gone. The first that it says
    is an order for :func:`prepare`.

    :param places: the descriptors of the socket that the supervisor is at the other end
        of, and of the listening socket. On Windows, the handle they come from.
    :param forks: whether to fork a server for each load.
    """
    leave_to_supervisor()
    name_process(KEEPS_WARM)

    if sys.platform == "win32":
        from .._windows import take_over

        places = tuple(take_over(places[0]))

    channel_fd, listener_fd = places
    channel = Channel(socket.socket(fileno=channel_fd))
    serve, read = warm_up()
    orders: list[Message] = []

    while not orders:
        orders = _received(channel)

    kept = prepare(orders.pop(0), channel)

    from ..serve.fresh_imports import imported_files

    channel.send(
        event="ready",
        files=read,
        imported=imported_files(),
        libraries={} if kept is None else kept.libraries(),
    )

    if not forks:
        become_server(channel.renewed(), listener_fd, serve, orders)

    serve = functools.partial(serve, kept=kept)
    Forker(channel, listener_fd, serve).loop(orders)

    if kept is not None:
        # What has been imported is not asked to say farewell: no app has used it.
        os._exit(0)


def _received(channel: Channel) -> list[Message]:
    messages = channel.receive()

    if messages is None:
        sys.exit()  # the supervisor is gone

    return messages


def warm_up() -> tuple[Serve, dict[str, str]]:
    """Patch the standard library, then import what every load needs.

    :return: what a server does, and the digests of the sources that were read, by path.
        More may be added to them as modules are imported.
    """
    from gevent import monkey

    with entry_points_read_once():
        monkey.patch_all()

    from ..serve.fresh_imports import read_afresh

    read: dict[str, str] = {}
    read_afresh(read.__setitem__)

    import uuid

    import geventwebsocket.handler  # noqa: F401
    import jinja2.ext  # noqa: F401
    import websockets.server  # noqa: F401
    from werkzeug.debug import DebuggedApplication

    from ..dotenv_files import files
    from ..serve.main import main as serve

    # That imports what reads them.
    files(None, True)

    # What the debugger looks up about the machine for its PIN takes a while.
    uuid.getnode()
    _ = DebuggedApplication(lambda environ, start_response: [], evalex=True).pin
    return serve, read


@contextlib.contextmanager
def entry_points_read_once() -> t.Iterator[None]:
    """Let those who look for entry points in a ``with`` block find what is installed
    now. gevent asks for those of each module that it patches, two dozen times, and each
    time the files of all installed distributions would be read.
    """
    from importlib import metadata

    original = metadata.entry_points
    found: t.Any = original()
    metadata.entry_points = found.select

    try:
        yield
    finally:
        metadata.entry_points = original


def prepare(order: Message, channel: Channel) -> Kept | None:
    """Import what the loads of this app need besides.

    :param order: ``preload`` names modules of the person's choice, ``steps`` are what
        earlier loads have imported, ``dotenv`` is what
        :func:`flask_sockets_cli.dotenv_files.read_again` takes, ``reload`` is whether
        there is a reloader.
    :param channel: where to tell of an import that is nothing for this process.
    :return: what has been imported, ``None`` if there was nothing to import.
    """
    if not order["preload"] and not order["steps"]:
        return None

    from ..dotenv_files import read_again
    from ..serve.effects import generators_noted
    from ..serve.kept import Kept

    # As a server does it before it loads the app.
    read_again(*order["dotenv"])

    with generators_noted() as generators:
        preload_modules(order["preload"])

    if not order["steps"]:
        return Kept(generators=generators)

    from ..import_steps import from_json
    from .repeating import LeftOut, repeat

    if order["reload"]:
        os.environ["WERKZEUG_RUN_MAIN"] = "true"

    try:
        return repeat(
            from_json(order["steps"]),
            generators,
            lambda name: channel.send(event="trying", name=name),
        )
    except LeftOut as error:
        channel.send(event="left_out", **vars(error))
        os._exit(0)


def preload_modules(names: Iterable[str]) -> None:
    """Import what the person wants to have warm. What fails is left to the app, which
    needs it or does not.
    """
    import importlib

    from ..terminal import warn

    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            warn(
                f"The module {name!r} can't be preloaded ({type(error).__name__}:"
                f" {error}). Use '--preload' with the name of a module that can be"
                " imported."
            )


def become_server(
    channel: Channel, listener_fd: int, serve: Serve, orders: list[Message]
) -> t.NoReturn:
    """Serve the one load this process is for.

    :param orders: what the supervisor has said already.
    """
    while not orders:
        orders = _received(channel)

    serve(orders[0], socket.socket(fileno=listener_fd), channel, channel)
