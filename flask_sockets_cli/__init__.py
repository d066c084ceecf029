"""``flask wsrun``: a development server that serves WebSockets, with reload."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from .commands import wsrun_command

__all__ = ["wsrun_command"]


def __getattr__(name: str) -> t.Any:
    # The processes that serve import this package too, and must patch the standard
    # library before Flask's command line is imported. So the command comes on demand.
    if name == "wsrun_command":
        from .commands import wsrun_command

        return wsrun_command

    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
