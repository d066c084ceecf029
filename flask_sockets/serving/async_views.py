"""Async views on servers with greenlets.

asyncio allows one running event loop per thread. Greenlets share a thread, so that a
second async view which begins while another one waits would fail.
"""

from __future__ import annotations

import contextvars
import functools
import sys
import typing as t

if t.TYPE_CHECKING:
    from flask import Flask

#: How many async views may run at the same time. More of them wait.
MAX_THREADS = 200

_pool: t.Any = None


def run_in_threads(app: Flask) -> None:
    """Let each call of the app's ``async def`` functions have a thread of its own while
    threads are greenlets.
    """
    to_sync = app.async_to_sync

    if not isinstance(to_sync, _Apart):
        app.async_to_sync = _Apart(to_sync)  # type: ignore


class _Apart:
    def __init__(self, to_sync: t.Callable[..., t.Callable[..., t.Any]]) -> None:
        self._to_sync = to_sync

    def __call__(self, function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        run = self._to_sync(function)

        @functools.wraps(function)
        def run_apart(*args: t.Any, **kwargs: t.Any) -> t.Any:
            if not _threads_are_greenlets():
                return run(*args, **kwargs)

            call = functools.partial(contextvars.copy_context().run, run, *args)
            result, error = _threads().apply(_outcome, (call, kwargs))

            if error is not None:
                raise error

            return result

        return run_apart


def _outcome(
    call: t.Callable[..., t.Any], kwargs: dict[str, t.Any]
) -> tuple[t.Any, BaseException | None]:
    """What a call returns, or raises: gevent would print what a thread raises."""
    try:
        return call(**kwargs), None
    except BaseException as error:
        return None, error


def _threads_are_greenlets() -> bool:
    # Where gevent has patched anything this module is imported already.
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


def _threads() -> t.Any:
    # Not the hub's own pool, which is small and looks up names.
    global _pool

    if _pool is None:
        from gevent.threadpool import ThreadPool

        _pool = ThreadPool(MAX_THREADS, idle_task_timeout=10)

    return _pool
