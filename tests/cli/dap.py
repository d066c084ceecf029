"""A client of the Debug Adapter Protocol that follows child processes, as VS Code does.

The protocol is at https://microsoft.github.io/debug-adapter-protocol/specification.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path

from ..process import PATIENCE, until


class Debugger:
    """A debugger that is attached to a process and to all that it starts.

    :param port: where the debug adapter of the first process listens.
    :param path: the file with the breakpoint.
    :param line: the line of the breakpoint, from 1 on.
    """

    def __init__(self, port: int, path: Path, line: int) -> None:
        #: The values of ``os.getpid()`` where the breakpoint was hit, in that order.
        self.hits: list[str] = []
        self._path = path
        self._line = line
        self._grown = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._follow({"connect": {"host": "127.0.0.1", "port": port}})

    def wait_for_hits(self, number: int) -> None:
        """Wait until the breakpoint was hit so many times."""
        with self._grown:
            assert self._grown.wait_for(lambda: len(self.hits) >= number, PATIENCE)

    def close(self) -> None:
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

            sock.close()

    def _follow(self, configuration: dict[str, t.Any]) -> None:
        address = configuration["connect"]
        # Nobody may connect before, just to see whether the adapter listens.
        sock = until(lambda: _connect(address["host"], address["port"]), "the adapter")
        self._sockets.append(sock)
        threading.Thread(
            target=self._converse, args=(sock, configuration), daemon=True
        ).start()

    def _converse(self, sock: socket.socket, configuration: dict[str, t.Any]) -> None:
        numbers = iter(range(1, 1 << 30))

        def request(command: str, **arguments: t.Any) -> None:
            message = {
                "seq": next(numbers),
                "type": "request",
                "command": command,
                "arguments": arguments,
            }
            body = json.dumps(message).encode()
            sock.sendall(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

        request("initialize", adapterID="debugpy", clientID="vscode", pathFormat="path")
        request("attach", **{"justMyCode": True, "subProcess": True, **configuration})

        with contextlib.suppress(OSError, ValueError):
            for message in _messages(sock):
                self._react(message, request)

    def _react(self, message: dict[str, t.Any], request: Callable[..., None]) -> None:
        body = message.get("body") or {}

        match message.get("event") or message.get("command"):
            case "initialized":
                request(
                    "setBreakpoints",
                    source={"path": str(self._path)},
                    breakpoints=[{"line": self._line}],
                )
                request("configurationDone")
            case "debugpyAttach":
                self._follow(body)
            case "stopped":
                request("stackTrace", threadId=body["threadId"], levels=1)
            case "stackTrace":
                frame = body["stackFrames"][0]["id"]
                request("evaluate", expression="os.getpid()", frameId=frame)
            case "evaluate":
                with self._grown:
                    self.hits.append(str(body.get("result")))
                    self._grown.notify_all()

                request("continue", threadId=0)


def _connect(host: str, port: int) -> socket.socket | None:
    try:
        return socket.create_connection((host, port))
    except ConnectionRefusedError:
        return None


def _messages(sock: socket.socket) -> Iterator[dict[str, t.Any]]:
    with sock.makefile("rb") as file:
        while header := file.readline():
            size = int(header.partition(b":")[2])
            file.readline()
            yield json.loads(file.read(size))
