"""What comes in on a connection: bytes from the socket, messages for the handler.

A handler that receives reads from the socket by itself. While it does something else
the scheduler looks after what comes: it answers pings, notices the end, and reads
messages ahead as long as there is room for them.
"""

from __future__ import annotations

import enum
import time
import typing as t

from .keepalive import NEVER
from .protocol import Progress
from .transport import NOT_NOW

if t.TYPE_CHECKING:
    from collections.abc import Callable

    from .protocol import Message, Protocol
    from .transport import Event, Transport

    T = t.TypeVar("T")

#: How much a single read asks the kernel for, in bytes.
READ_SIZE = 65536

#: How many reads are made ahead of a handler before others may run.
READS_AT_ONCE = 4

#: How long a handler that has received something has for its answer, in seconds, before
#: the scheduler looks whether the client has closed the connection meanwhile.
PATIENCE = 0.25

#: How many reads are made of what came before the connection was lost.
MAX_READS_AT_END = 100


class Input(enum.Enum):
    """How far the input of a connection has come."""

    #: Messages can come.
    OPEN = enum.auto()
    #: Both sides have said Close, or the client may not say more. Nothing that comes is
    #: looked at.
    OVER = enum.auto()
    #: The stream has ended, or the connection is lost.
    ENDED = enum.auto()


# Looking up a member of an enum takes longer than all that is done with it here (until
# Python 3.12).
_OPEN = Input.OPEN


class AlreadyReceiving(Exception):
    """Another greenlet or thread is receiving."""


class Owner(t.Protocol):
    """What a reader needs of its connection."""

    def answer_pings(self, pongs: list[bytes]) -> None:
        """Send the frames that answer pings, or the last of them."""

    def read_end(self) -> None:
        """The next frame closes the connection: let the protocol read it."""

    def lose(self) -> None:
        """The connection is gone."""

    def look_soon(self, when: float) -> None:
        """Call :meth:`Reader.look` at a time, or before."""


class _Nobody:
    """Owns a reader whose connection has ended."""

    def answer_pings(self, pongs: list[bytes]) -> None: ...
    def read_end(self) -> None: ...
    def lose(self) -> None: ...
    def look_soon(self, when: float) -> None: ...


class Reader:
    """The side of a connection that reads."""

    def __init__(self, transport: Transport, protocol: Protocol, owner: Owner) -> None:
        self._transport = transport
        self._protocol = protocol
        self._scheduler = transport.scheduler
        self._owner: Owner = owner
        #: Messages that nobody has received yet.
        self.messages = protocol.messages
        self.state = Input.OPEN
        #: Bytes that were read.
        self.bytes_read = 0

        # Held by whoever reads: a receiver, the scheduler for an instant, or whoever
        # waits for the end. Nobody waits for it by acquiring it on a hub.
        self._lock = transport.scheduler.new_mutex()
        # Whether whoever holds the lock, or is about to, doesn't receive.
        self._is_looking = False
        self._is_finishing = False
        # Set when a receiver has left.
        self._left: Event | None = None

        # The last read came up short, so the kernel's buffer is empty: wait instead of
        # asking once more.
        self._is_drained = False
        # When the scheduler looks next.
        self._look_at = NEVER
        # Whether somebody has received since the last look, and whether that look was
        # given up for it.
        self._was_received = False
        self._was_patient = False
        # Whether the scheduler reads as soon as something comes.
        self._is_watching = False
        #: How many wait for the end only, and want no messages beyond those read ahead.
        self.unheeding = 0

    # For the handler

    def receive(self, deadline: float | None) -> Message | None:
        """Wait for a message. There can be one receiver at a time.

        :param deadline: in the terms of :func:`time.monotonic`.
        :return: ``None`` if no more can come.
        :raises TimeoutError: at the deadline.
        :raises AlreadyReceiving: if there is another receiver.
        """
        messages, scheduler = self.messages, self._scheduler

        # Entering may have let others run, which receive as well. On a hub nobody does
        # from then on until the message is taken, so the lock isn't needed.
        may_take = messages and scheduler.enter() and scheduler.is_hub

        if may_take and messages and not self._lock.locked():
            if self._is_watching:
                self._unwatch()

            message: Message | None = messages.pop(0)
        else:
            message = self._wait_for_message(deadline)

            if message is None:
                return None

        # Not before the lock is released: a look that finds it held asks for no other.
        self._was_received = True

        if self._look_at == NEVER:
            self._ask_for_look()

        return message

    def _wait_for_message(self, deadline: float | None) -> Message | None:
        if not self._lock.acquire(False) and not self._acquire(deadline):
            return None

        try:
            messages = self.messages
            message = None
            is_waiting = not messages and deadline is None

            if is_waiting and self._is_drained and not self._is_watching:
                message = self._read_one()

            if message is None:
                if not messages:
                    self._read_until_served(deadline)

                    if not messages:
                        return None

                if self._is_watching:
                    self._unwatch()

                message = messages.pop(0)

            return message
        finally:
            self._lock.release()

            if self._left is not None:
                self._left.set()

    def _acquire(self, deadline: float | None) -> bool:
        """Get the lock from one who holds it for an instant, if that's who holds it.

        :return: ``False`` if whoever has it reads to the end.
        """
        while not self._is_finishing:
            if not self._is_held_for_an_instant():
                # It may have been released just now.
                if self._lock.acquire(False):
                    return True

                if not self._is_held_for_an_instant():
                    raise AlreadyReceiving

            # On a hub nobody runs during a look. So a receiver has the lock, which runs
            # next, and has not yet heard that the connection is lost.
            if self._scheduler.is_hub:
                return False

            if self._lock.acquire(timeout=0.05):
                return True

        return False

    def _read_one(self) -> Message | None:
        """Wait, and read a message if that is all there is. Most often it is.

        Whatever else has come is left to :meth:`_read_until_served`.
        """
        transport = self._transport

        if self.state is not _OPEN or self._protocol.has_unread:
            return None

        transport.wait_readable()

        try:
            data = transport.raw_receive(READ_SIZE)
        except (*NOT_NOW, OSError):
            return None

        size = len(data)

        if not size:
            return None  # The next read says so once more.

        self.bytes_read += size
        self._is_drained = size < READ_SIZE and not transport.is_tls
        return self._protocol.read_one(data)

    def _is_held_for_an_instant(self) -> bool:
        """Whether no receiver may have the lock, or one that is about to leave."""
        return self._is_looking or self.state is Input.ENDED

    def _read_until_served(self, deadline: float | None) -> None:
        if self._is_watching:
            self._unwatch()

        transport, protocol = self._transport, self._protocol
        messages = self.messages

        if protocol.has_unread:
            self._parse(ahead=False, may_wait=True)

        if deadline is not None:
            self._is_drained = False  # Ask once before it is too late.

        while not messages and self.state is _OPEN:
            if self._is_drained:
                transport.wait_readable(_remaining(deadline))

            if self._read_now() is not None:
                self._parse(ahead=False, may_wait=True)

            if not messages:
                # Perhaps the client sends nothing but pings, without a pause.
                self._scheduler.enter()

                if deadline is not None and self.state is _OPEN:
                    _remaining(deadline)

    def finish(self, deadline: float, linger: float) -> None:
        """Read until the stream has ended. Messages are thrown away.

        :param deadline: until when to wait for the client's Close.
        :param linger: seconds to wait at most, after that, for the end of the stream.
        """
        self._protocol.is_discarding = True
        self._is_finishing = True

        if not self._acquire_to_finish(deadline):
            return

        try:
            self._unwatch()
            self._is_drained = False
            self._parse(ahead=True, may_wait=True)

            while self.state is not Input.ENDED:
                if self.state is Input.OVER:
                    deadline = min(deadline, time.monotonic() + linger)
                    linger = NEVER

                if self._is_drained:
                    self._transport.wait_readable(_remaining(deadline))
                else:
                    _remaining(deadline)

                if self._read_now() is not None:
                    self._parse(ahead=True, may_wait=True)

                self._scheduler.enter()
        except TimeoutError:
            pass  # The client had its time.
        finally:
            self._lock.release()

    def _acquire_to_finish(self, deadline: float) -> bool:
        """Get the lock, from a receiver that was left behind as well.

        That one reads what comes. It leaves when both sides have said Close.
        """
        while not self._lock.acquire(False):
            if self._left is None:
                self._left = self._transport.new_event()

            self._left.clear()
            # A thread may hold the lock for an instant without setting this.
            remaining = deadline - time.monotonic()

            if remaining <= 0:
                return False

            self._left.wait(min(0.05, remaining))

        return True

    def leave(self, timeout: float) -> None:
        """Wait until nobody is at the socket any more, after the connection is lost.

        :param timeout: seconds to wait at most.
        """
        self._is_finishing = True

        if self._acquire_to_finish(time.monotonic() + timeout):
            self._lock.release()

        self._owner = _Nobody()  # It would be kept in memory.

    @property
    def is_busy(self) -> bool:
        """Whether somebody receives, or looks after what comes, at this moment."""
        return bool(self._lock.locked())

    # For the scheduler

    def look(self, now: float) -> float:
        """Look after what comes, unless somebody receives. Doesn't wait.

        :return: when to look next.
        """
        if now < self._look_at:
            return self._look_at

        # A handler that has just received something may be about to answer it. But
        # pings have to be answered too, so that is true of every other look only.
        self._was_patient = self._was_received and not self._was_patient
        self._was_received = False
        self._look_at = now + PATIENCE if self._was_patient else NEVER

        if not self._was_patient:
            self._read_ahead()

        return self._look_at

    def look_now(self) -> None:
        """Begin to look after what comes, without the usual patience."""
        self._was_received = False
        self._look_at = time.monotonic()
        self._owner.look_soon(self._look_at)

    def _ask_for_look(self) -> None:
        self._look_at = time.monotonic() + PATIENCE
        self._owner.look_soon(self._look_at)

    def begin(self) -> None:
        """The handler may never receive."""
        self._ask_for_look()

    def _read_ahead(self) -> None:
        """Take in what is there, unless somebody reads. From now on, whenever something
        comes."""
        self._is_looking = True

        try:
            if not self._lock.acquire(False):
                return  # Somebody receives, and reads by themselves.

            try:
                if self._take_in() and not self._is_watching:
                    self._is_watching = True
                    self._transport.watch_readable(self._read_ahead)
            finally:
                self._lock.release()
        finally:
            self._is_looking = False

    def _take_in(self) -> bool:
        """Read a bit, and say whether to go on when more comes."""
        protocol = self._protocol
        progress = Progress.DRAINED

        if protocol.has_unread:
            progress = self._parse(ahead=True, may_wait=False)

        for _ in range(READS_AT_ONCE):
            if progress is not Progress.DRAINED or not self._has_room():
                break

            if self._read_now() is None:
                break

            progress = self._parse(ahead=True, may_wait=False)

            if self._is_drained:
                break
        else:
            # What TLS has read from the socket already makes nobody call.
            progress = Progress.MORE

        if progress is Progress.MORE:
            self.look_now()

        if self._has_room():
            return True

        self._unwatch()
        return False

    def _has_room(self) -> bool:
        """Whether more may be read. At the end that is what nobody looks at."""
        if self.state is _OPEN:
            protocol = self._protocol

            if protocol.has_room():
                protocol.is_discarding = self._is_finishing
                return True

            # Who waits for the end only doesn't want what there is no room for.
            protocol.is_discarding |= self.unheeding > 0
            return protocol.is_discarding

        return self.state is Input.OVER

    def _unwatch(self) -> None:
        if self._is_watching:
            self._is_watching = False
            self._transport.unwatch_readable()

    # The end

    def read_last_words(self) -> None:
        """Nothing can be written, but what the client sent before may say why."""
        if not self._lock.acquire(False):
            return  # Whoever reads comes to the end by themselves.

        try:
            self._parse(ahead=True, may_wait=False)

            for _ in range(MAX_READS_AT_END):
                if self.state is Input.ENDED or self._read_now() is None:
                    break

                self._parse(ahead=True, may_wait=False)

            self._owner.lose()
        finally:
            self._lock.release()

    def end_messages(self) -> None:
        """Both sides have said Close, or the client may not say more."""
        if self.state is _OPEN:
            self.state = Input.OVER

    def end(self) -> None:
        """Nothing can be read any more."""
        self.state = Input.ENDED
        self._unwatch()

    # With the lock held

    def _read_now(self) -> int | None:
        """Take in what is there, without waiting.

        :return: how many bytes that was, ``None`` if there was nothing.
        """
        if self.state is Input.ENDED:
            return None

        try:
            data = self._transport.receive(READ_SIZE)
        except OSError:
            data = b""

        if data is None:
            self._is_drained = True
            return None

        size = len(data)

        if not size:
            self._owner.lose()
            return 0

        self.bytes_read += size
        # A read from TLS gives one record, however much more there is.
        self._is_drained = size < READ_SIZE and not self._transport.is_tls

        if self.state is _OPEN:
            self._protocol.receive_data(data)

        return size

    def _parse(self, ahead: bool, may_wait: bool) -> Progress:
        """Let the protocol read what has come.

        :param ahead: as for :meth:`.Protocol.read`.
        :param may_wait: whether this may let others run in between.
        """
        protocol = self._protocol

        if protocol.is_compressed:
            protocol.run_aside = self._transport.run_aside if may_wait else _call

        while True:
            progress = protocol.read(ahead)

            if protocol.pongs:
                pongs, protocol.pongs = protocol.pongs, []
                self._owner.answer_pings(pongs)

            if progress is Progress.END:
                self._owner.read_end()

                if self.state is not _OPEN:
                    return Progress.DRAINED
            elif progress is not Progress.MORE:
                return progress
            elif may_wait:
                if self.messages and not ahead:
                    return progress

                self._scheduler.enter()
            elif self._scheduler.is_turn_over():
                return progress


def _call(function: Callable[[], T]) -> T:
    return function()


def _remaining(deadline: float | None) -> float | None:
    """How long there is still to wait, in seconds."""
    if deadline is None:
        return None

    remaining = deadline - time.monotonic()

    if remaining <= 0:
        raise TimeoutError("The client of the WebSocket took too long.")

    return remaining
