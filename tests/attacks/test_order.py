"""Whole frames in order, however many send at once and however slowly they are read."""

from __future__ import annotations

import dataclasses
import fcntl
import ssl
import sys
import termios

import pytest

from ..frames import BINARY, CLOSE, PING, PONG, Frame, frame
from ..live.ways import FLASK_RUN, PYWSGI, WORKER, WSRUN, Way
from .attackers import Attacker
from .target import serve, settled

#: How often each voice sends.
COUNT = 60

TLS = dataclasses.replace(
    WSRUN,
    name="wsrun-tls",
    command=(*WSRUN.command, "--cert", "adhoc"),
    ready=r"Running on https://127\.0\.0\.1:(\d+)",
)
TLS_THREADS = dataclasses.replace(
    FLASK_RUN,
    name="flask-run-tls",
    command=(*FLASK_RUN.command, "--cert", "adhoc"),
    ready=r"Running on https://127\.0\.0\.1:(\d+)",
)


class SlowReader(Attacker):
    """Reads what it is sent in small pieces, and sends pings meanwhile.

    :param is_tls: whether to trust whoever is there, and speak TLS.
    """

    def __init__(self, port: int, is_tls: bool) -> None:
        super().__init__(port, receive_buffer=16384)
        if is_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)

    def unread(self) -> int:
        """How many bytes have come that weren't read."""
        size = fcntl.ioctl(self.socket, termios.FIONREAD, bytes(4))
        return int.from_bytes(size, sys.byteorder)


def read_all(raw: Attacker) -> list[Frame]:
    """Every frame up to the Close frame, and nothing behind it."""
    found = []
    while True:
        found.append(raw.read_frame())
        if len(found) % 20 == 0:
            raw.send(frame(PING, b"%d" % len(found)))
        if found[-1].opcode == CLOSE:
            break
    raw.send(frame(CLOSE, found[-1].payload[:2]))
    with pytest.raises(EOFError):
        raw.read(1)
    return found


@pytest.mark.parametrize(
    "way", [WORKER, PYWSGI, FLASK_RUN, TLS, TLS_THREADS], ids=lambda way: way.name
)
def test_frames_of_many_senders_are_whole_and_in_order(way: Way) -> None:
    with (
        serve(way) as server,
        SlowReader(server.port, "tls" in way.name) as client,
    ):
        client.shake_hands(f"/chorus?count={COUNT}")
        # All of them wait for the client then.
        settled(client.unread)
        frames = read_all(client)
    assert frames[-1].close == (4000, "the end")
    numbers: dict[str, list[int]] = {}
    for opcode, payload in frames[:-1]:
        if opcode == BINARY:
            voice = payload[:1]
            assert payload[5:].strip(voice) == b""
            numbers.setdefault(voice.decode(), []).append(
                int.from_bytes(payload[1:5], "big")
            )
        else:
            assert opcode in (PING, PONG)
    expected = {voice: list(range(COUNT)) for voice in "abcdefghp"}
    assert numbers == expected
