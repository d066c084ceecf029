"""What a connection costs a server: resident memory while idle, and the handshake.

    python benchmarks/footprint.py [--quick] [--only NAME ...] [--write]

Memory is what the process has grown by, divided by the number of connections that were
opened and echoed one message each. The handshake is the server's processor time, user
and system, for connections that are opened and closed one after the other.
"""

from __future__ import annotations

import argparse

from echo import SERVERS, versions
from harness import HERE, Server, header_of, python_server, replace_section
from load import Shape, frames, handshake, receive_exactly

#: The server without a protocol is no server of anything.
NAMES = [name for name in SERVERS if name != "gevent_floor"]


def memory(name: str, connections: int) -> float:
    """KiB of resident memory per idle connection."""
    frame, reply = frames(Shape(1, 1, 32))
    server = Server(python_server(name))
    sockets = []
    try:

        def open_one() -> None:
            sock = handshake(server.port)
            sock.sendall(frame)
            receive_exactly(sock, len(reply))
            sockets.append(sock)

        for _ in range(50):  # What is only needed once is there by now.
            open_one()
        before = server.resident_kib()
        for _ in range(connections):
            open_one()
        return (server.resident_kib() - before) / connections
    finally:
        for sock in sockets:
            sock.close()
        server.stop()


def handshakes(name: str, count: int) -> float:
    """Handshakes that a processor could do in a second."""
    server = Server(python_server(name))
    try:
        for _ in range(100):
            handshake(server.port).close()
        before = server.processor_seconds()
        for _ in range(count):
            handshake(server.port).close()
        return count / (server.processor_seconds() - before)
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few connections")
    parser.add_argument("--only", nargs="*", choices=NAMES, default=NAMES)
    parser.add_argument("--write", action="store_true", help="update RESULTS.md")
    options = parser.parse_args()
    count = 200 if options.quick else 1000
    lines = [
        "| server | KiB per idle connection | handshakes per processor second |",
        "|---|---|---|",
    ]
    for name in options.only:
        kib = memory(name, count)
        rate = handshakes(name, 2 * count)
        lines.append(f"| {name} ({versions(name)}) | {kib:.1f} | {rate:,.0f} |")
        print(lines[-1])
    if options.write:
        text = "\n".join(lines)
        replace_section(
            HERE / "RESULTS.md",
            "Footprint",
            f"{header_of(f'{count} connections')}\n\n{text}",
        )


if __name__ == "__main__":
    main()
