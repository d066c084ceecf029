"""What a process publishes that serves nothing: a script, a task, a cron job."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from flask_sockets.topics.redis import RedisBroker
from flask_sockets.topics.rules import TopicOptions

from ..process import Process
from ..redis_server import RedisServer
from ..topics.contract import Listener
from .processes import LIVE_APPS


def test_a_script_publishes_from_threads_and_forks_without_a_task_of_its_own(
    tmp_path: Path,
) -> None:
    with RedisServer(tmp_path) as redis:
        broker, listener = RedisBroker(redis.url), Listener()
        broker.start(listener)
        broker.subscribe({"log": TopicOptions(history=1000)})
        admin = redis.client()
        count = len(admin.client_list())
        script = [sys.executable, "publisher.py"]
        env = {"SOCKETS_BROKER": redis.url}
        with Process(*script, cwd=LIVE_APPS, env=env) as process:
            process.wait_for("^started$")
            assert (
                len(admin.client_list()) == count
            )  # Nothing connects before it has to.
            process.signal(signal.SIGUSR1)
            process.wait_for("^published$")
            assert listener.wait_for(1) == [b"first"]
            assert len(admin.client_list()) == count + 1
            process.signal(signal.SIGUSR1)
            process.wait_for("^done$")
            assert process.wait() == 0
        received = [payload.decode() for payload in listener.wait_for(88)]
        broker.close()
    assert received[:3] == ["first", "child", "parent"]
    from_threads = {f"{t}-{n}" for t in range(4) for n in range(20)}
    from_children = {f"child {number}" for number in range(5)}
    assert sorted(received[3:]) == sorted(from_threads | from_children)
    for t in range(4):
        own = [name for name in received if name.startswith(f"{t}-")]
        assert own == [f"{t}-{n}" for n in range(20)]
