"""Workers are replaced, and clients that reconnect by themselves notice nothing else.
What becomes of those of a whole instance is tested with examples/deploy/.

``DEPLOYS_CLIENTS`` in the environment is the number of clients.
"""

from __future__ import annotations

import dataclasses
import os
import signal

from .processes import Server
from .returning import ReturningClients
from .ways import TWO_WORKERS

#: 500 in the long form.
CLIENTS = int(os.environ.get("DEPLOYS_CLIENTS", "60"))


#: Two workers with the time to end that gunicorn gives them by itself.
WORKERS = dataclasses.replace(
    TWO_WORKERS,
    command=(*TWO_WORKERS.command[:-1], "--graceful-timeout", "30", "{app}"),
)


def pids_of_workers(server: Server) -> set[str]:
    return {str(pid) for pid in server.members() if pid != server.pid}


def until_both_serve(server: Server) -> None:
    server.wait_for_log(r"(?s)app loaded.*app loaded")


def test_nobody_is_refused_or_stays_away_after_a_reload() -> None:
    """SIGHUP: the new workers take over while the old ones take leave."""
    with WORKERS.serve("bare:app") as server:
        until_both_serve(server)
        with ReturningClients(server.url("/pid"), CLIENTS) as clients:
            clients.until_served()
            before = pids_of_workers(server)
            server.signal(signal.SIGHUP)
            clients.until_served(but_not_by=before)
            # Who meets the other old worker, which is about to end, is told again.
            assert set(clients.codes) == {1012}
        server.assert_log_is_clean()


def test_nobody_is_refused_or_stays_away_when_a_worker_has_served_enough() -> None:
    """'--max-requests', with a jitter: workers end one after the other."""
    # The second worker may come to it as well, but those after them don't.
    arguments = ("--max-requests", str(2 * CLIENTS), "--max-requests-jitter", "20")
    way = dataclasses.replace(
        WORKERS, command=(*WORKERS.command[:-1], *arguments, "{app}")
    )
    with way.serve("bare:app") as server:
        until_both_serve(server)
        with ReturningClients(server.url("/pid"), CLIENTS) as clients:
            clients.until_served()
            while not exiting(server):
                assert server.get("/").status == 200
            clients.until_served(but_not_by=exiting(server))
            assert set(clients.codes) == {1012}
        server.assert_log_is_clean()


def exiting(server: Server) -> set[str]:
    """The workers that have said that they end."""
    lines = [line for line in server.log.splitlines() if "Autorestarting" in line]
    return {line.split("[")[2].split("]")[0] for line in lines}


def test_nobody_is_refused_or_stays_away_when_a_worker_crashes() -> None:
    """Its clients find the other one, or the one that takes its place."""
    with WORKERS.serve("bare:app") as server:
        until_both_serve(server)
        with ReturningClients(server.url("/pid"), CLIENTS) as clients:
            clients.until_served()
            pid, count = clients.pids().most_common(1)[0]
            os.kill(int(pid), signal.SIGKILL)
            clients.until_served(but_not_by=[pid])
            assert clients.codes == {1006: count}
        server.expected += [r"was sent SIGKILL"]
        server.assert_log_is_clean()
