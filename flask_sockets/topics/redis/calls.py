"""Commands for Redis from any number of threads and greenlets, on one connection.

Whoever comes while the connection is in use is served by whoever uses it next, who
sends all commands that wait in one write. So the connection carries more the busier
it gets, and no task in the background is needed: a script or a Celery task that
publishes once is as well served as a server.
"""

from __future__ import annotations

import collections
import hashlib
import re
import threading
import time
import typing as t

from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from ..broker import BrokerUnavailable
from . import scripts
from .connecting import failure, reason_of

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from .connecting import Connection

#: How long one call may take, in seconds.
TIMEOUT = 5.0

#: How long a call waits at most, in seconds, for others that come first and are served,
#: in a process that has more to do than it can.
MAX_WAIT = 30.0

#: How long after a failure to connect no other attempt is made, in seconds.
RETRY_INTERVAL = 0.2

#: After how many seconds without a command the connection may have been closed, by
#: Redis or by something on the way.
IDLE_TIME = 1.0

#: How many commands are sent in one write.
MAX_BATCH = 512

#: How many commands may wait. A publisher that goes on meanwhile gets an error.
MAX_PENDING = 20_000


class RunId:
    """Stands for the run id of the Redis that a command will be sent to."""


RUN_ID: t.Final = RunId()

Argument: t.TypeAlias = "str | bytes | int | float | RunId"


class _Call:
    """A command, and what became of it."""

    __slots__ = ("arguments", "error", "is_done", "result")

    def __init__(self, arguments: tuple[Argument, ...]) -> None:
        self.arguments = arguments
        self.is_done = False
        self.result: t.Any = None
        self.error: Exception | None = None

    def end(self, result: t.Any = None, error: Exception | None = None) -> None:
        self.result, self.error, self.is_done = result, error, True


class Calls:
    """The connection of this process for everything but listening.

    :param connect: makes a connection that isn't open yet.
    :param name: how the broker is called in errors, without its password.
    """

    def __init__(self, connect: Callable[[], Connection], name: str) -> None:
        self._connect = connect
        self._name = name
        self._pending: collections.deque[_Call] = collections.deque()
        # Held by whoever uses the connection.
        self._turn = threading.Lock()
        self._connection: Connection | None = None
        self._used_at = 0.0
        # When Redis has answered.
        self._served_at = 0.0
        self._retry_at = 0.0
        self._last_error: Exception | None = None
        #: The id of the Redis that is connected to. Another one may have lost
        #: something.
        self.run_id = ""
        self._digests = {
            script: hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
            for script in scripts.ALL
        }

    def call(self, *arguments: Argument) -> t.Any:
        """Do one command.

        :return: what Redis answers, undecoded.
        :raises BrokerUnavailable: if Redis can't be reached, or refuses.
        """
        return self.call_all([arguments])[0]

    def run(self, script: str, keys: t.Sequence[str], *arguments: Argument) -> t.Any:
        """Run one of the :mod:`.scripts`.

        :raises BrokerUnavailable: if Redis can't be reached, or refuses.
        """
        return self.call(*self.script(script, keys, *arguments))

    def script(
        self, script: str, keys: t.Sequence[str], *arguments: Argument
    ) -> tuple[Argument, ...]:
        """The command that runs one of the :mod:`.scripts`, for :meth:`call_all`."""
        return ("EVALSHA", self._digests[script], len(keys), *keys, *arguments)

    def call_all(self, commands: t.Sequence[tuple[Argument, ...]]) -> list[t.Any]:
        """Do several commands, in this order but not at once.

        :raises BrokerUnavailable: if one of them failed; others may have been done.
        """
        results = self.try_all(commands)

        for result in results:
            if isinstance(result, BrokerUnavailable):
                raise result

        return results

    def try_all(self, commands: t.Sequence[tuple[Argument, ...]]) -> list[t.Any]:
        """Do several commands, some of which may fail.

        :return: what Redis answers to each, or a :exc:`BrokerUnavailable`.
        :raises BrokerUnavailable: if Redis didn't answer in time.
        """
        give_up = time.monotonic() + MAX_WAIT
        calls = [_Call(arguments) for arguments in commands]

        if len(self._pending) > MAX_PENDING:
            raise self._unavailable("too much is waiting to be sent already")

        self._pending.extend(calls)

        while not all(call.is_done for call in calls):
            if not self._turn.acquire(timeout=TIMEOUT):
                now = time.monotonic()

                if now < min(self._served_at + TIMEOUT, give_up):
                    continue

                self._withdraw(calls)
                raise self._unavailable("it doesn't answer in time")

            try:
                while not all(call.is_done for call in calls):
                    self._send_pending()
            finally:
                self._turn.release()

        return [
            call.result if call.error is None else self._failed(call.error)
            for call in calls
        ]

    def _failed(self, cause: Exception) -> BrokerUnavailable:
        error = self._unavailable(reason_of(cause))
        error.__cause__ = cause
        return error

    def retry_now(self) -> None:
        """Redis was reached in another way, so that it is worth an attempt."""
        self._retry_at = 0.0

    def close(self) -> None:
        """Close the connection. The next call opens another."""
        with self._turn:
            self._drop()

    def _withdraw(self, calls: list[_Call]) -> None:
        for call in calls:
            try:
                self._pending.remove(call)
            except ValueError:  # It is being sent.
                continue

    def _unavailable(self, reason: str) -> BrokerUnavailable:
        return BrokerUnavailable(failure(self._name, reason))

    # For whoever has the turn

    def _send_pending(self) -> None:
        """Send the commands that wait, and read the answers."""
        batch: list[_Call] = []

        while self._pending and len(batch) < MAX_BATCH:
            batch.append(self._pending.popleft())

        try:
            self._exchange(batch)
        except (RedisError, OSError) as error:
            self._drop()

            for call in batch:
                if not call.is_done:
                    call.end(error=error)
        except BaseException as error:
            # A greenlet was killed, or a worker ran into its timeout: the answers of
            # this batch can't be told from those of the next.
            self._drop()

            for call in batch:
                if not call.is_done:
                    call.end(error=ConnectionError(f"interrupted: {error!r}"))

            raise

    def _exchange(self, batch: list[_Call]) -> None:
        connection = self._open()
        commands = [
            [self.run_id if part is RUN_ID else part for part in call.arguments]
            for call in batch
        ]
        connection.send_packed_command(connection.pack_commands(commands))
        unknown: list[_Call] = []
        is_read_only = False

        for call in batch:
            try:
                call.end(connection.read_response())
            except NoScriptError:  # Someone has cleared Redis' cache of scripts.
                unknown.append(call)
            except ResponseError as error:
                call.end(error=error)
                is_read_only |= isinstance(error, ReadOnlyError)

        self._served_at = time.monotonic()

        if unknown:
            self._load_scripts(connection)
            self._exchange(unknown)

        if is_read_only:  # It is a replica now. Another one may be the master.
            self._drop()

    def _open(self) -> Connection:
        if self._connection is not None and self._is_stale(self._connection):
            self._drop()

        if self._connection is None:
            if self._last_error is not None and time.monotonic() < self._retry_at:
                raise self._last_error

            self._last_error = None
            connection = self._connect()

            try:
                connection.connect()
                self.run_id = self._read_run_id(connection)
                self._load_scripts(connection)
            except BaseException as error:
                connection.disconnect()

                if isinstance(error, (RedisError, OSError)):
                    self._last_error = error
                    self._retry_at = time.monotonic() + RETRY_INTERVAL

                raise

            self._connection = connection

        self._used_at = time.monotonic()
        return self._connection

    def _is_stale(self, connection: Connection) -> bool:
        """Whether the connection was closed while nobody used it."""
        if time.monotonic() - self._used_at < IDLE_TIME:
            return False

        try:
            # Nothing was asked, so that nothing but the end can have come.
            return connection.can_read(timeout=0)
        except (RedisError, OSError):
            return True

    def _drop(self) -> None:
        connection, self._connection = self._connection, None

        if connection is not None:
            connection.disconnect()

    def _read_run_id(self, connection: Connection) -> str:
        connection.send_command("INFO", "server")
        found = re.search(rb"run_id:(\w+)", connection.read_response())
        return "" if found is None else found[1].decode()

    def _load_scripts(self, connection: Connection) -> None:
        commands = [("SCRIPT", "LOAD", script) for script in scripts.ALL]
        connection.send_packed_command(connection.pack_commands(commands))

        for _ in commands:
            connection.read_response()
