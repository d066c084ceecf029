"""What looks for greenlets that never run looks at everything in memory."""

from __future__ import annotations

import weakref

import gevent

from flask_sockets.serving.idle_greenlets import waiting_greenlets


class Thing:
    """Something that others refer to weakly."""


def test_only_greenlets_that_have_not_begun_are_found_whatever_else_is_there() -> None:
    thing = Thing()
    gone = weakref.proxy(thing)
    del thing
    greenlet = gevent.spawn(int)
    assert greenlet in waiting_greenlets()
    greenlet.join()
    assert greenlet not in waiting_greenlets()
    assert type(gone) is weakref.ProxyType
