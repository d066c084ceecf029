"""The extensions, made here without an app, and bound to one by the factory.

So the other modules can import them whatever imports what first.
"""

from __future__ import annotations

from flask_sockets import Sockets

sockets = Sockets()
