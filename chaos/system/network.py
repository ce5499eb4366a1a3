"""The connections between workers and server, through one port of a proxy per worker: for network faults and traces."""

import statistics
import time
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import redis

from .proxy import Link, Listener, Proxy, Tally, Tracer

PROBES = 300


@dataclass(frozen=True, kw_only=True)
class ProxyCost:
    """Round trips of PING with and without the proxy: medians of `probes` measurements in a row, ms."""

    probes: int
    direct_ms: float
    through_ms: float

    def recorded(self) -> dict[str, Any]:
        """Return the numbers and the sentence, for the history."""
        return {**asdict(self), "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """The measurement in a sentence, for reports."""
        return (
            f"Workers reached the server through the proxy: a PING takes {self.through_ms:.3f} ms there and "
            f"{self.direct_ms:.3f} ms directly (medians of {self.probes}, measured by the harness before the run)."
        )


class Network:
    """`with Network(url, slots) as network`. The worker of a slot gets `listeners[slot].url` as its server URL."""

    def __init__(self, url: str, slots: int, tracer: Tracer | None = None) -> None:
        """`tracer`: follows tasks in the traffic of workers and clients. Raises ValueError: unsupported URL."""
        self._url = url
        self._slots = slots
        self._stack = ExitStack()
        self.proxy = Proxy(url)
        self._tracer = tracer
        self.listeners: list[Listener] = []
        self.clients: dict[str, Listener] = {}
        """Name of a process that is not a worker -> its listener."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:  # ends the proxy if a port can't be opened
            stack.enter_context(self.proxy)
            self.listeners = [
                self.proxy.listen(tracer=self._tracer, who=f"worker-{slot + 1}") for slot in range(self._slots)
            ]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @cached_property
    def cost(self) -> ProxyCost:
        """Latency that the proxy adds. Measured at the first access, which takes some tenths of a second."""
        return measure(self._url, self.proxy)

    def client_url(self, who: str) -> str:
        """Return the server URL for a process that is not a worker."""
        if who not in self.clients:
            self.clients[who] = self.proxy.listen(tracer=self._tracer, who=who)
        return self.clients[who].url

    def set_links(self, slots: Collection[int], link: Link) -> None:
        """Give these slots the same link conditions; each slot draws its own jitter."""
        for slot in slots:
            self.listeners[slot].set_link(replace(link, seed=link.seed + slot))

    def tallies(self, slots: Collection[int]) -> tuple[Tally, Tally]:
        """Return what the links of these slots did so far to the traffic to the server, and to the workers."""
        chosen = [self.listeners[slot] for slot in slots]
        return (
            sum((listener.to_server for listener in chosen), Tally()),
            sum((listener.to_worker for listener in chosen), Tally()),
        )


def measure(url: str, proxy: Proxy, probes: int = PROBES) -> ProxyCost:
    """Time PING directly and through a port of the proxy, alternately, so that a busy moment affects both."""
    listener = proxy.listen()
    direct_s: list[float] = []
    through_s: list[float] = []
    try:
        with redis.Redis.from_url(url) as direct, redis.Redis.from_url(listener.url) as through:
            for _ in range(probes):
                for client, times_s in ((direct, direct_s), (through, through_s)):
                    sent_s = time.perf_counter()
                    client.ping()
                    times_s.append(time.perf_counter() - sent_s)
    finally:
        listener.close()
    return ProxyCost(
        probes=probes,
        direct_ms=statistics.median(direct_s) * 1000,
        through_ms=statistics.median(through_s) * 1000,
    )
