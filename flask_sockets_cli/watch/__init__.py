"""Which files matter, and which of them have changed: a part of the supervisor."""

#: What is never imported here. watchdog's threads would lock up in a process that
#: gevent has patched, and the app is none of this process's business.
NEVER_IMPORTED = ("gevent", "geventwebsocket", "flask_sockets", "websockets")
