"""Mutants that recover wrongly, or not at all."""

import time
from collections.abc import Sequence
from typing import Any

import redis
from zeroloss.reference.queue import reaper
from zeroloss.reference.queue.connection import NOW, Script
from zeroloss.reference.queue.reaper import Reaper, Sweep
from zeroloss.reference.queue.task import decode
from zeroloss.reference.worker.claimer import Claimer

from .mutant import UNEXPLAINED, mutant
from .patching import edit, patch
from .profiles import ASLEEP, BAD_LINE, CALM, CLOCKS, KILLS, PLANTED, QUIET


@mutant(expects=("STUCK", "NEEDS_RESTART"), breaks="I4", profile=KILLS)
def no_recovery() -> None:
    """Nobody looks for what the dead held."""
    patch(Reaper, "recover", lambda _reaper, _consumer: 0)


@mutant(expects=UNEXPLAINED, breaks="I3", profile=CALM)
def recovery_ignores_leases() -> None:
    """Every sweep takes from every consumer what it holds, living or not."""
    edit(reaper, "_RECOVER", "if not lease or tonumber(lease) > now then return -1 end", "")

    def everybody(self: Any) -> list[str]:
        return [name.decode() for name in self._client.zrange(self._keys.consumers, 0, -1)]

    patch(Reaper, "_dead_and_holding", everybody)


@mutant(expects="LOST", breaks="I1", profile=BAD_LINE)
def recovery_in_two_steps() -> None:
    """What a dead worker held is removed by one command and put back by the next ones."""

    def in_two_steps(client: redis.Redis, keys: Sequence[str], arguments: Sequence[Any]) -> int:
        consumer, *moves = arguments
        lease: Any = client.zscore(keys[0], consumer)
        now: Any = client.time()
        if lease is None or lease > now[0] * 1000 or not client.delete(keys[1]):
            return -1
        for changed, place in zip(moves[1::3], moves[2::3], strict=True):
            client.rpush(keys[2] if place == "pending" else keys[3], changed)
        return len(moves) // 3

    patch(reaper, "_RECOVER", in_two_steps)


@mutant(expects=("STUCK", "NEEDS_RESTART"), breaks="I4", profile=PLANTED)
def lease_index_only() -> None:
    """A list that no lease names is never looked at."""
    patch(Reaper, "adopting", lambda _reaper: iter(()))


@mutant(expects=("STUCK", "NEEDS_RESTART"), breaks="I4", profile=ASLEEP)
def tombstone_forgotten() -> None:
    """A dead worker is forgotten once its list is empty, though its claim may still be blocked in Redis.

    With it goes the sweep for lists that nobody names, else such a task would only be late.
    """

    def sweep(self: Any) -> Sweep:
        swept: Sweep = original(self)
        for name in self._ended_before(0):
            keys = [self._keys.consumers, self._keys.processing(name.decode()), self._keys.presence]
            reaper._FORGET(self._client, keys, [name, 0])
        return swept

    original = patch(Reaper, "sweep", sweep)
    patch(Reaper, "adopting", lambda _reaper: iter(()))


@mutant(expects=("STUCK", "NEEDS_RESTART"), breaks="I4", profile=PLANTED)
def undecodable_wedges() -> None:
    """What cannot be decoded ends the sweep that meets it."""

    def strictly(self: Any, element: bytes, consumer: str) -> Any:
        decode(element)
        return original(self, element, consumer)

    original = patch(Reaper, "_next", strictly)


@mutant(expects="NEEDS_TRAFFIC", breaks="I4", profile=QUIET)
def recovery_needs_traffic() -> None:
    """The sweep is run only when a new task was claimed."""
    claimed = []

    def admit(self: Any, elements: Any) -> None:
        elements = list(elements)
        claimed.extend(elements)
        admit_all(self, elements)

    def sweep(self: Any) -> Sweep:
        if not claimed:
            return Sweep(0, 0)
        swept: Sweep = sweep_all(self)
        claimed.clear()
        return swept

    admit_all = patch(Claimer, "_admit", admit)
    sweep_all = patch(Reaper, "sweep", sweep)


@mutant(expects=(UNEXPLAINED, "STUCK", "NEEDS_RESTART"), breaks="I3", profile=CLOCKS)
def client_clock() -> None:
    """Leases are written and judged by the clock of whoever does it, and not by Redis's."""

    def call(self: Any, client: redis.Redis, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        own = f"local now = {time.time_ns() // 1_000_000}\n"
        return original(Script(self.source.replace(NOW, own)), client, keys, arguments)

    def ended_before(self: Any, ago_ms: int) -> list[bytes]:
        now_ms = time.time_ns() // 1_000_000
        return list(self._client.zrangebyscore(self._keys.consumers, "-inf", now_ms - ago_ms))

    original = patch(Script, "__call__", call)
    patch(Reaper, "_ended_before", ended_before)
