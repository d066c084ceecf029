"""``flask wsrun``: a development server that serves WebSockets, with reload.

And ``flask sockets``, which reaches servers that run already.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from .commands import wsrun_command
    from .topic_commands import sockets_command

__all__ = ["sockets_command", "wsrun_command"]


def __getattr__(name: str) -> t.Any:
    # The processes that serve import this package too, and must patch the standard
    # library before Flask's command line is imported. So the commands come on demand.
    if name == "wsrun_command":
        from .commands import wsrun_command

        return wsrun_command

    if name == "sockets_command":
        from .topic_commands import sockets_command

        return sockets_command

    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
