"""How many processes, machines and Redises a number of connections needs.

    python benchmarks/capacity.py [--connections N] [--publications N] [...]

Nothing is measured here. What things cost was measured by the other benchmarks, see
RESULTS.md, and what you have measured can be given instead. The load is yours to say.

The plan leaves out your own code in handlers, TLS, compression and the balancer.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import typing as t

from harness import table

#: What TCP and IP add to each packet, in bytes, with the usual timestamps.
PACKET_OVERHEAD = 52


def option(default: t.Any, help: str) -> t.Any:
    """A field that is an option of the command, too."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class Load:
    """What there is to do."""

    connections: int = option(1_000_000, "open at the same time")
    topics: float = option(2.0, "that a connection is subscribed to")
    publications: float = option(2_000.0, "in a second, of all processes together")
    subscribers: float = option(500.0, "that a publication has, on average")
    received: float = option(0.01, "messages a second that each client sends")
    size: int = option(100, "bytes of a message")
    history: float = option(0.5, "part of the publications whose topics keep one")


@dataclasses.dataclass(frozen=True)
class Costs:
    """What it takes. The defaults are measured, unless they say otherwise."""

    socket_kib: float = option(22.9, "KiB of a connection (Footprint)")
    topic_kib: float = option(0.46, "KiB of a subscription (Subscriptions)")
    kernel_kib: float = option(8.0, "KiB of the kernel for a connection (assumed)")
    process_mib: float = option(80.0, "MiB of an app without connections (assumed)")
    ping_us: float = option(61.0, "µs of a ping and its pong (Idle)")
    ping_interval: float = option(25.0, "seconds between two pings, 0 for none")
    receive_us: float = option(19.3, "µs of a message that is received (Echo)")
    delivery_us: float = option(6.2, "µs of a delivery (Fan-out, 1 in flight)")
    hear_us: float = option(47.0, "µs of a publication that is heard (Broker)")
    publish_us: float = option(68.0, "µs of a publication that is made (Broker)")
    open_us: float = option(601.0, "µs of opening and closing (Idle)")
    subscribe_us: float = option(82.0, "µs of a subscription (Subscriptions)")
    redis_us: float = option(16.0, "µs of Redis for a plain publication (Broker)")
    redis_history_us: float = option(39.0, "the same with a history (Broker)")
    redis_process_us: float = option(4.4, "more of it for each process (Broker)")


@dataclasses.dataclass(frozen=True)
class Machine:
    """What it is to run on."""

    cores: int = option(8, "of a machine, one process for each")
    gib: float = option(16.0, "memory of a machine")
    utilisation: float = option(0.5, "part of a core that may be in use")
    sockets: int = option(10_000, "of a process at most, as many as measured")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is needed, so that one machine may fail."""

    processes: int
    machines: int
    redises: int
    #: How many processes hear of a publication, on average.
    hearing: float
    #: The parts of a core that a process and a Redis use.
    process_use: float
    redis_use: float
    #: Of one machine.
    memory_gib: float
    megabits: float
    #: Of all processor time that is left, for the connections of a machine that fails.
    takeover_seconds: float


def plan(load: Load, costs: Costs, machine: Machine) -> Plan:
    """Find the smallest number of machines that does, when one of them has failed.

    :raises ValueError: if no number does.
    """
    machines = 1
    while not _fits(load, costs, machine, machines):
        machines += 1
        if machines > load.connections + 1:
            raise ValueError(
                "No number of machines can do that: what each process hears is too"
                " much for it. Let topics have fewer publications."
            )
    total = machines + 1
    processes = total * machine.cores
    redis_use = _redis_use(load, costs, processes)
    redises = max(1, math.ceil(redis_use / machine.utilisation))
    deliveries = load.publications * load.subscribers
    bits = deliveries * (load.size + 4 + PACKET_OVERHEAD) * 8
    free = machine.cores * machines * (1 - _use(load, costs, processes))
    takeover = load.connections / total * _opening_seconds(load, costs) / free
    return Plan(
        processes,
        total,
        redises,
        _hearing(load, processes),
        _use(load, costs, processes),
        redis_use / redises,
        _memory_gib(load, costs, processes) * machine.cores,
        bits / total / 1e6,
        takeover,
    )


def _fits(load: Load, costs: Costs, machine: Machine, machines: int) -> bool:
    processes = machines * machine.cores
    return (
        load.connections / processes <= machine.sockets
        and _use(load, costs, processes) <= machine.utilisation
        and _memory_gib(load, costs, processes) * machine.cores <= machine.gib
    )


def _hearing(load: Load, processes: int) -> float:
    """How many processes have a subscriber, if the balancer knows nothing of topics."""
    return processes * (1 - (1 - 1 / processes) ** load.subscribers)


def _use(load: Load, costs: Costs, processes: int) -> float:
    """The part of a core that one of the processes uses."""
    connections = load.connections / processes
    pings = connections / costs.ping_interval if costs.ping_interval else 0
    microseconds = (
        pings * costs.ping_us
        + connections * load.received * costs.receive_us
        + load.publications / processes * costs.publish_us
        + load.publications / processes * load.subscribers * costs.delivery_us
        + load.publications / processes * _hearing(load, processes) * costs.hear_us
    )
    return microseconds / 1e6


def _redis_use(load: Load, costs: Costs, processes: int) -> float:
    """The part of a core that all Redises use together."""
    own = costs.redis_us + load.history * (costs.redis_history_us - costs.redis_us)
    each = _hearing(load, processes) * costs.redis_process_us
    return load.publications * (own + each) / 1e6


def _memory_gib(load: Load, costs: Costs, processes: int) -> float:
    """The memory of one of the processes, with the kernel's for its connections."""
    kib = costs.socket_kib + load.topics * costs.topic_kib + costs.kernel_kib
    return (load.connections / processes * kib + costs.process_mib * 1024) / 2**20


def _opening_seconds(load: Load, costs: Costs) -> float:
    """How long a process takes to take a connection that comes back."""
    return (costs.open_us + load.topics * costs.subscribe_us) / 1e6


def show(load: Load, result: Plan) -> str:
    rows = (
        ("machines, one of which may fail", f"{result.machines:,}"),
        ("processes", f"{result.processes:,}"),
        ("connections of a process", f"{load.connections / result.processes:,.0f}"),
        ("a process uses of a core", f"{result.process_use:.0%}"),
        ("memory in use of a machine", f"{result.memory_gib:.1f} GiB"),
        ("what a machine sends", f"{result.megabits:,.0f} Mbit/s"),
        ("processes that hear of a publication", f"{result.hearing:.1f}"),
        ("Redises", f"{result.redises:,}"),
        ("a Redis uses of a core", f"{result.redis_use:.0%}"),
        (
            "the others can take over from a machine that fails in",
            f"{result.takeover_seconds:.1f} s",
        ),
    )
    return table(("plan", ""), rows)


def show_load(load: Load) -> str:
    deliveries = load.publications * load.subscribers
    received = load.connections * load.received
    rows = (
        ("connections", f"{load.connections:,}"),
        ("topics of each", f"{load.topics:g}"),
        ("publications in a second", f"{load.publications:,.10g}"),
        ("subscribers of a publication", f"{load.subscribers:,.10g}"),
        ("deliveries in a second", f"{deliveries:,.0f}"),
        ("messages in a second from clients", f"{received:,.10g}"),
        ("bytes of a message", f"{load.size:,}"),
        ("publications with a history", f"{load.history:.0%}"),
    )
    return table(("load", ""), rows)


def count(text: str) -> int:
    """Read a whole number that is greater than 0."""
    value = int(text)
    if value <= 0:
        raise ValueError
    return value


def number(text: str) -> float:
    """Read a number that isn't negative."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = (Load, Costs, Machine)
    for part in parts:
        group = parser.add_argument_group(part.__name__.lower(), part.__doc__)
        for field in dataclasses.fields(part):
            group.add_argument(
                f"--{field.name.replace('_', '-')}",
                type=count if isinstance(field.default, int) else number,
                default=field.default,
                help=f"{field.metadata['help']} (default: {field.default:,})",
            )
    values = vars(parser.parse_args())
    load, costs, machine = (
        part(**{field.name: values[field.name] for field in dataclasses.fields(part)})
        for part in parts
    )
    try:
        result = plan(load, costs, machine)
    except ValueError as error:
        parser.error(str(error))
    print(f"{show_load(load)}\n\n{show(load, result)}")


if __name__ == "__main__":
    main()
