"""The command ``flask wsrun``.

Every ``flask`` command imports this module, so it imports only what is there anyway.
"""

from __future__ import annotations

import os
import sys
import types
import typing as t

import click
from flask.cli import ScriptInfo, SeparatedPathType, pass_script_info
from flask.helpers import get_debug_flag, get_load_dotenv


def _variables(name: str) -> list[str]:
    """The environment variables of an option, the first one that is set counts."""
    return [f"FLASK_WSRUN_{name}", f"FLASK_RUN_{name}"]


def _set_debug(
    ctx: click.Context, param: click.Parameter, value: bool | None
) -> bool | None:
    if value is not None:
        # As 'flask --debug' does it: the app is to find it while it is loaded.
        os.environ["FLASK_DEBUG"] = "1" if value else "0"

    return value


class _CertificateType(click.Path):
    """The path of a file, or the word ``adhoc``."""

    def convert(
        self, value: t.Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> t.Any:
        if value != "adhoc":
            return super().convert(value, param, ctx)

        try:
            import cryptography  # noqa: F401
        except ImportError:
            raise click.BadParameter(
                "An ad-hoc certificate needs the library 'cryptography'. Install it, or"
                " give the path of a certificate.",
                ctx,
                param,
            ) from None

        return value


@click.command("wsrun", short_help="Run a development server with WebSockets.")
@click.option(
    "--debug/--no-debug",
    default=None,
    callback=_set_debug,
    expose_value=False,
    help="Set debug mode.",
)
@click.option(
    "--host",
    "-h",
    default="127.0.0.1",
    envvar=_variables("HOST"),
    help="The interface to bind to, or 'unix://' and the path of a socket.",
)
@click.option(
    "--port",
    "-p",
    type=click.IntRange(0, 65535),
    default=5000,
    envvar=_variables("PORT"),
    help="The port to bind to, 0 for any free one.",
)
@click.option(
    "--cert",
    type=_CertificateType(exists=True, dir_okay=False, resolve_path=True),
    envvar=_variables("CERT"),
    help="A certificate file to serve HTTPS and wss:// with, or 'adhoc'.",
)
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    envvar=_variables("KEY"),
    help="The key file of the certificate.",
)
@click.option(
    "--reload/--no-reload",
    default=None,
    envvar=_variables("RELOAD"),
    help="Enable or disable the reloader. By default the reloader is active if debug is"
    " enabled.",
)
@click.option(
    "--debugger/--no-debugger",
    default=None,
    envvar=_variables("DEBUGGER"),
    help="Enable or disable the debugger. By default the debugger is active if debug is"
    " enabled.",
)
@click.option(
    "--live/--no-live",
    default=False,
    help="Reload open pages in the browser when a template or static file changes, and"
    " after each reload of the app. For debug mode only.",
)
@click.option(
    "--extra-files",
    default=None,
    type=SeparatedPathType(),
    envvar=_variables("EXTRA_FILES"),
    help="Extra files, directories and patterns of files that reload on a change."
    f" Multiple ones are separated by {os.path.pathsep!r}.",
)
@click.option(
    "--exclude-patterns",
    default=None,
    type=SeparatedPathType(),
    envvar=_variables("EXCLUDE_PATTERNS"),
    help="Files and directories that never reload: names, or paths if there is a slash,"
    f" both with wildcards. Multiple ones are separated by {os.path.pathsep!r}.",
)
@click.option(
    "--poll/--no-poll",
    default=False,
    help="Look for changes of files, where the system does not tell of them. Mounts of"
    " such a kind are noticed on Linux.",
)
@click.option(
    "--fork/--no-fork",
    default=True,
    help="Fork servers from a warm process, or start each one anew, as it is done on"
    " Windows and under the debugger of an IDE in any case.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Seconds that open WebSockets and requests get to end when the server reloads"
    " or stops.",
)
@click.option(
    "--preload",
    metavar="MODULE",
    multiple=True,
    help="A third-party module that is slow to import, to be kept imported across"
    " reloads. Can be given several times; FLASK_WSRUN_PRELOAD has spaces in between.",
)
@click.option(
    "--learn/--no-learn",
    default=True,
    help="Learn from each load which libraries are slow to import, and keep them"
    " imported across reloads. That is the default, on Linux.",
)
@click.option(
    "--routes",
    is_flag=True,
    help="List the WebSocket routes, which 'flask routes' can't tell from others.",
)
@click.option(
    "--keys/--no-keys",
    default=True,
    help="Restart the app, open it, or quit by a key, if there is a terminal.",
)
@click.option("--open", is_flag=True, help="Open the app in a browser.")
@pass_script_info
def wsrun_command(
    info: ScriptInfo,
    host: str,
    port: int,
    cert: str | None,
    key: str | None,
    reload: bool | None,
    debugger: bool | None,
    live: bool,
    extra_files: list[str] | None,
    exclude_patterns: list[str] | None,
    poll: bool,
    fork: bool,
    grace: float,
    preload: tuple[str, ...],
    learn: bool,
    routes: bool,
    keys: bool,
    open: bool,
) -> None:
    """Run a local development server that serves WebSockets.

    This server is for development purposes only. It does not provide the stability,
    security, or performance of production WSGI servers.

    The reloader and debugger are enabled by default with the '--debug' option.
    """
    from .certificate import make_certificate
    from .files import current_directory
    from .interpreter import can_fork, start_interpreter
    from .listener import open_listener, port_of
    from .settings import UNIX, Settings
    from .signals import blocked

    if current_directory() is None:
        raise click.UsageError(
            "The current directory has been deleted. Change to one that exists."
        )

    if cert is not None and cert != "adhoc" and key is None:
        raise click.UsageError(
            "'--cert' needs '--key', the key file of the certificate."
        )

    if key is not None and (cert is None or cert == "adhoc"):
        raise click.UsageError("'--key' needs '--cert', the file of its certificate.")

    if open and host.startswith(UNIX):
        raise click.UsageError(
            "'--open' needs a host and a port: browsers open no socket by its path."
        )

    _open_standard_streams()
    debug = get_debug_flag()
    reload = debug if reload is None else reload
    live = live and _can_be_live(debug, reload)
    app, is_group = _import_path(info)
    # Flask 3.0 has no such attribute.
    dotenv_defaults = getattr(info, "load_dotenv_defaults", get_load_dotenv())

    with (
        make_certificate(cert, key) as certificate,
        open_listener(host, port) as listener,
        # Until the supervisor takes them: a signal is to end all processes in its way.
        blocked(),
    ):
        # Now: it imports more than what is left to import here, and does so meanwhile.
        interpreter = start_interpreter(listener, fork and can_fork())

        from .dotenv_files import env_file, values_in_effect
        from .supervisor import Supervisor

        env_path = env_file(click.get_current_context().find_root())
        settings = Settings(
            app=app,
            is_group=is_group,
            set_debug_flag=info.set_debug_flag,
            debug=debug,
            host=host,
            port=port_of(listener),
            certificate=certificate,
            reload=reload,
            debugger=debug if debugger is None else debugger,
            live=live,
            extra_files=tuple(extra_files or ()),
            exclude_patterns=tuple(exclude_patterns or ()),
            poll=poll,
            grace=grace,
            preload=preload,
            learn=learn,
            routes=routes,
            keys=keys,
            open=open,
            dotenv=values_in_effect(env_path, dotenv_defaults),
            dotenv_defaults=dotenv_defaults,
            env_file=env_path,
        )
        sys.exit(Supervisor(settings, listener, interpreter).run())


def _open_standard_streams() -> None:
    """Let no socket take the place of a standard stream that is closed ('2>&-')."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def _can_be_live(debug: bool, reload: bool) -> bool:
    """Whether open pages can be reloaded.

    :raises click.UsageError: if they can't, unless it is the environment that asks for
        it: the variable may stand in a file and is to count in debug mode only.
    """
    if debug and reload:
        return True

    source = click.get_current_context().get_parameter_source("live")

    if source == click.core.ParameterSource.ENVIRONMENT:
        return False

    if not debug:
        raise click.UsageError("'--live' needs debug mode. Add '--debug'.")

    raise click.UsageError("'--live' needs the reloader. Turn it on with '--reload'.")


def _import_path(info: ScriptInfo) -> tuple[str | None, bool]:
    """The import path of the app, and whether it is that of a command line of the app's
    own, which knows how to make the app: the app is loaded in another process.

    :raises click.UsageError: if a command line makes the app with a function, and
        neither of the two can be imported.
    """
    factory = info.create_app

    if info.app_import_path is not None or factory is None:
        return info.app_import_path, False

    # Not every callable has a name, and a name may not lead to it.
    name = getattr(factory, "__qualname__", "")
    module = sys.modules.get(getattr(factory, "__module__", ""))

    if module is not None and getattr(module, name, None) is factory:
        return f"{_path_of(module)}:{name}", False

    group = click.get_current_context().find_root().command

    # The module that was run is the last resort: it may only be a script.
    modules = [m for m in sys.modules.values() if isinstance(m, types.ModuleType)]

    for module in sorted(modules, key=lambda m: m.__name__ == "__main__"):
        for name, value in list(vars(module).items()):
            if value is group:
                return f"{_path_of(module)}:{name}", True

    raise click.UsageError(
        "The function that makes the app can't be imported by the process that serves."
        " Let it, or the 'FlaskGroup', have a name in a module, or use '--app'."
    )


def _path_of(module: types.ModuleType) -> str:
    if module.__name__ == "__main__":
        return os.path.abspath(str(module.__file__))

    return module.__name__
