"""How the processes talk."""

from __future__ import annotations

import socket

from flask_sockets_cli.channel import Channel


def test_a_renewed_channel_goes_on_within_a_message() -> None:
    """What has been read of the message is not lost with the old socket."""
    ours, theirs = socket.socketpair()

    with theirs:
        channel = Channel(ours)
        theirs.sendall(b'\n{"do": "prepare"}\n\n{"do": ')
        assert channel.receive() == [{"do": "prepare"}]
        renewed = channel.renewed()
        theirs.sendall(b'"load"}\n')
        assert renewed.receive() == [{"do": "load"}]
        renewed.close()
