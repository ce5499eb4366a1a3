"""The time that one server spends on a fleet of 100, 1,000 and 10,000 consumers.

The consumers are simulated: each has a lease, a report and a subscription, like a worker process, but one connection
subscribes for all. The same number of further connections wait for the bell.
"""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import redis
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import connect
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.queue.reaper import Reaper
from zeroloss.reference.stats.gauges import Gauges
from zeroloss.reference.worker.presence import _MARK

from ...context import Context
from ...rows import Row, number, ratio
from .spent import server_seconds

SIZES = (100, 1_000, 10_000)
QUICK_SIZES = (100, 1_000)
LEASE_MS = 600_000  # no lease ends during the measurement
SPARE_CLIENTS = 200
PATIENCE_MS = 60_000  # Valkey 9.1 searches the list of all waiters for each waiter when the bell rings
CHUNK = 1_000
OPERATIONS = {"a sweep": 20, "a renewal": 500, "a claim": 500, "a ring": 5, "the monitor's reading": 5}
"""Operation -> how often it is run in a round."""


def measure(context: Context) -> list[Row]:
    sizes = QUICK_SIZES if context.quick else SIZES
    subjects = {f"{size:,} consumers": partial(_round, context, size) for size in sizes}
    found = context.interleaved(
        subjects, lambda each: ", ".join(f"{name} {number(micros)} µs" for name, micros in each.items())
    )
    rows = []
    for operation in OPERATIONS:
        values = {
            size: tuple(each[operation] for each in found[name])
            for size, name in zip(sizes, subjects, strict=True)
            if name in found
        }
        rows += [
            Row(label=f"{operation}, {size:,} consumers", unit="µs of the server", values=each)
            for size, each in values.items()
        ]
        if len(values) > 1:
            smallest, largest = min(values), max(values)
            rows.append(ratio(f"{operation}, {largest:,} against {smallest:,}", values[largest], values[smallest]))
    return rows


def _round(context: Context, size: int) -> dict[str, float]:
    """Return operation -> the server's time for one, µs."""
    client = context.empty_server()
    client.config_set("maxclients", SIZES[-1] + SPARE_CLIENTS)
    config = Config(redis_url=context.server.url, lease_ms=LEASE_MS, block_ms=PATIENCE_MS)
    with ExitStack() as stack:
        own = stack.enter_context(closing(connect(config)))
        names = [f"host-{number_}-0-00000000" for number_ in range(size)]
        stack.enter_context(_registered(own, config, names))
        stack.enter_context(_waiting(context.server.port, Keys(config.namespace).bell, size))
        consumer, enqueuer = Consumer(own, config, "measured"), Enqueuer(own, config)
        consumer.renew()
        enqueuer.enqueue_payload(0)
        reaper, gauges = Reaper(own, config), Gauges(own, config)
        acts: dict[str, Callable[[], object]] = {
            "a sweep": reaper.sweep,
            "a renewal": consumer.renew,
            "a claim": consumer.claim,
            "a ring": lambda: enqueuer.enqueue_payload(0),
            "the monitor's reading": gauges.read,
        }
        return {name: _micros(client, act, OPERATIONS[name]) for name, act in acts.items()}


def _micros(client: redis.Redis, act: Callable[[], object], count: int) -> float:
    before = server_seconds([client])
    for _ in range(count):
        act()
    return (server_seconds([client]) - before) / count * 1e6


@contextmanager
def _registered(client: redis.Redis, config: Config, names: list[str]) -> Iterator[None]:
    """Register consumers with a live lease, a report and a subscription."""
    keys = Keys(config.namespace)
    with closing(client.pubsub()) as subscription:
        for first in range(0, len(names), CHUNK):
            subscription.subscribe(*[keys.presence_channel(name) for name in names[first : first + CHUNK]])
        for name in names:
            Consumer(client, config, name).renew()
        while client.pubsub_numsub(keys.presence_channel(names[-1]))[0][1] == 0:
            pass
        for name in names:
            _MARK(client, [keys.consumers, keys.presence], [name, keys.presence_channel(name)])
        yield


@contextmanager
def _waiting(port: int, bell: str, count: int) -> Iterator[None]:
    """Open connections that block on the bell."""
    command = f"*3\r\n$5\r\nBLPOP\r\n${len(bell)}\r\n{bell}\r\n$1\r\n0\r\n".encode()
    with ExitStack() as stack:
        for _ in range(count):
            waiter = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            waiter.sendall(command)
        yield
