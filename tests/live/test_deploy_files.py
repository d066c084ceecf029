"""The files of examples/deploy/ fit together, and those of programs that run here do
what they are for.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import runpy
import signal
import typing as t
from pathlib import Path

import pytest
import yaml
from websockets.sync.client import connect

from ..process import PATIENCE, Process, free_port, program
from ..redis_server import RedisServer
from .returning import ReturningClients

FILES = Path(__file__).parents[2] / "examples" / "deploy"

# The tests share a Redis, which another worker would have to start again.
pytestmark = pytest.mark.xdist_group(__name__)

#: Of each proxy.
CLIENTS = 20


def load(name: str) -> list[t.Any]:
    """The documents of a file of YAML."""
    return list(yaml.safe_load_all((FILES / name).read_text()))


def grace() -> int:
    """How long a worker may take to end, in seconds."""
    return int(runpy.run_path(str(FILES / "gunicorn.conf.py"))["graceful_timeout"])


def seconds(duration: str) -> int:
    match = re.fullmatch(r"(\d+)s", duration)
    assert match is not None, duration
    return int(match[1])


# What is run


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Instance(Process):
    """The app as a platform starts it: by the line of the Procfile, with a port."""

    def __init__(self, redis: RedisServer) -> None:
        self.port = free_port()
        kind, _, command = (FILES / "Procfile").read_text().strip().partition(": ")
        assert kind == "web"
        env = {
            "PORT": str(self.port),
            "WEB_CONCURRENCY": "1",
            "FLASK_SOCKETS_BROKER": redis.url,
        }
        super().__init__(*command.split(), cwd=FILES, env=env)

    def __enter__(self) -> Instance:
        super().__enter__()
        return self

    def workers(self) -> set[str]:
        return {str(pid) for pid in self.members() if pid != self.pid}


def nginx(directory: Path, port: int, instances: list[Instance]) -> Process:
    text = (FILES / "nginx.conf").read_text()
    servers = " ".join(f"server 127.0.0.1:{one.port};" for one in instances)
    for old, new in (
        ("server app:8000;", servers),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("worker_processes auto;", "worker_processes 1;"),
        ("http {", "http { access_log off;"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    config = directory / "nginx.conf"
    config.write_text(f"pid {directory}/nginx.pid; error_log stderr error;\n{text}")
    arguments = ["-g", "daemon off;", "-c", str(config), "-p", str(directory)]
    return Process(program("nginx"), *arguments, cwd=directory)


def caddy(directory: Path, port: int, instances: list[Instance]) -> Process:
    """Without the port at which Caddy can be told something, of which there is one."""
    text = (FILES / "Caddyfile").read_text()
    config = directory / "Caddyfile"
    config.write_text("{\n\tadmin off\n}\n" + text)
    env = {
        "SITE": f"http://127.0.0.1:{port}",
        "UPSTREAMS": " ".join(f"127.0.0.1:{instance.port}" for instance in instances),
        "HOME": str(directory),
    }
    arguments = ["run", "--config", str(config), "--adapter", "caddyfile"]
    return Process(program("caddy"), *arguments, cwd=directory, env=env)


def pid_of(message: str | bytes) -> str:
    return str(json.loads(message)["process"])


@pytest.mark.parametrize("proxy", [nginx, caddy], ids=lambda proxy: proxy.__name__)
def test_nobody_is_refused_or_stays_away_when_an_instance_ends(
    tmp_path: Path,
    redis: RedisServer,
    proxy: t.Callable[[Path, int, list[Instance]], Process],
) -> None:
    """SIGTERM: an app that runs twice behind a proxy is updated, one after the other.
    Before that, clients of both hear each other."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        instances = [stack.enter_context(Instance(redis)) for _ in range(2)]
        for instance in instances:
            instance.wait_for("takes up to")
        stack.enter_context(proxy(tmp_path, port, instances)).wait_until_listening(port)
        url = f"ws://127.0.0.1:{port}/chat"
        assert_all_hear_each_other(url, instances)

        clients = stack.enter_context(ReturningClients(url, CLIENTS, pid_of))
        clients.until_served()
        first = instances[0]
        before = first.workers()
        count = sum(clients.pids()[pid] for pid in before)
        assert 0 < count < CLIENTS
        first.signal(signal.SIGTERM)
        assert first.wait() == 0
        clients.until_served(but_not_by=before)
        assert clients.codes == {1012: count}
        for instance in instances:
            assert "Traceback" not in instance.output
            assert "[ERROR]" not in instance.output


def assert_all_hear_each_other(url: str, instances: list[Instance]) -> None:
    with contextlib.ExitStack() as stack:
        served: dict[str, t.Any] = {}
        while not all(instance.workers() & served.keys() for instance in instances):
            ws = stack.enter_context(connect(url, proxy=None, open_timeout=PATIENCE))
            served[pid_of(ws.recv(PATIENCE))] = ws
        one, *others = served.values()
        for ws in (one, *others):  # All are subscribed once they have heard themselves.
            ws.send("hello")
            while json.loads(ws.recv(PATIENCE)) != {"said": "hello"}:
                pass
        one.send("good-bye")
        for ws in others:
            while json.loads(ws.recv(PATIENCE)) != {"said": "good-bye"}:
                pass


# What is compared


def test_the_container_has_what_it_starts() -> None:
    """Each file that is copied is there, and gunicorn itself gets the signals."""
    lines = (FILES / "Dockerfile").read_text().splitlines()
    copied = {
        name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]
    }
    assert copied == {"requirements.txt", "app.py", "gunicorn.conf.py"}
    assert all((FILES / name).exists() for name in copied)
    (command,) = [line for line in lines if line.startswith("CMD")]
    assert json.loads(command.removeprefix("CMD")) == ["gunicorn"]
    assert "EXPOSE 8000" in lines


def test_compose_waits_longer_than_gunicorn() -> None:
    (compose,) = load("compose.yaml")
    services = compose["services"]
    app, proxy = services["app"], services["nginx"]
    assert seconds(app["stop_grace_period"]) > grace()
    assert "affinity" not in str(compose)
    (volume,) = proxy["volumes"]
    assert (FILES / volume.split(":")[0]).exists()
    # The names are those of the services, and the port that of gunicorn.
    assert "server app:8000;" in (FILES / "nginx.conf").read_text()
    assert "UPSTREAMS:app:8000" in (FILES / "Caddyfile").read_text()
    assert app["environment"]["FLASK_SOCKETS_BROKER"] == "redis://redis:6379"
    assert services.keys() >= {"app", "redis", "nginx"}
    assert "/health" in app["healthcheck"]["test"][-1]


def test_kubernetes_waits_longer_than_gunicorn() -> None:
    """And its objects belong together."""
    deployment, service, budget = load("kubernetes.yaml")
    kinds = [each["kind"] for each in (deployment, service, budget)]
    assert kinds == ["Deployment", "Service", "PodDisruptionBudget"]
    spec = deployment["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    program, delay = container["lifecycle"]["preStop"]["exec"]["command"]
    assert program == "sleep"
    # The seconds before and after what gunicorn takes.
    assert pod["terminationGracePeriodSeconds"] >= int(delay) + grace() + 5
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    assert service["spec"]["selector"] == labels
    assert budget["spec"]["selector"]["matchLabels"] == labels
    (port,) = container["ports"]
    assert port == {"name": "http", "containerPort": 8000}
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    (variable,) = container["env"]
    assert variable["name"] == "FLASK_SOCKETS_BROKER"
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}


def test_probes_are_answered() -> None:
    location = importlib.util.spec_from_file_location("deployed", FILES / "app.py")
    assert location is not None
    assert location.loader is not None
    module = importlib.util.module_from_spec(location)
    location.loader.exec_module(module)
    assert module.app.test_client().get("/health").text == "ready"
