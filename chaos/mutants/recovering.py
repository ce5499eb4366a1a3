"""Mutants that recover wrongly, or not at all."""

import time
from collections.abc import Sequence
from typing import Any

import redis
from zeroloss.reference.queue import reaper
from zeroloss.reference.queue.connection import Script
from zeroloss.reference.queue.reaper import Reaper, Sweep
from zeroloss.reference.worker.claimer import Claimer

from .claiming import LOOKS_AGAIN
from .mutant import UNEXPLAINED, mutant
from .patching import counted, edit, patch, ring
from .profiles import BAD_LINE, CALM, CLOCKS, DEFAULT, FULL_HANDS, KILLS, PLANTED, QUIET

REMOVES_THE_CONSUMER = "if left == 0 then\n  redis.call('ZREM'"


@mutant(expects=("STUCK", "NEEDS_RESTART"), breaks="I4", profile=KILLS)
def no_recovery() -> None:
    """The tasks of dead workers are never recovered."""
    patch(Reaper, "recover", lambda _reaper, _consumer, **_: 0)


@mutant(expects=UNEXPLAINED, breaks="I3", profile=CALM)
def recovery_ignores_leases() -> None:
    """Every recovery sweep takes the tasks of all consumers, live or dead."""

    def sweep(self: Any) -> Sweep:
        names: Any = self._client.zrange(self._keys.consumers, 0, -1)
        recovered = sum(self.recover(name, is_dead=True) for name in self._ours(names))
        return Sweep(recovered, self.promote())

    patch(Reaper, "sweep", sweep)


@mutant(expects="LOST", breaks="I1", profile=BAD_LINE)
def recovery_in_two_steps() -> None:
    """Each task that a dead worker held is removed by one command and put back by the next."""

    def in_two_steps(client: redis.Redis, keys: Sequence[str], arguments: Sequence[Any]) -> list[Any]:
        lease: Any = client.zscore(keys[5], arguments[0])
        now: Any = client.time()
        if lease is not None and lease > now[0] * 1000:
            return [-1, 0, b""]
        held: Any = client.hgetall(keys[4])
        for number in sorted(held, key=int, reverse=True):
            client.hdel(keys[4], number)
            client.rpush(keys[2], counted(held[number], recoveries=1))
        client.zrem(keys[5], arguments[0])
        ring(client, keys[:4])
        return [len(held), 0, b""]

    patch(reaper, "_RECOVER", in_two_steps)


@mutant(expects=("STUCK", "NEEDS_RESTART"), breaks="I4", profile=PLANTED)
def undecodable_wedges() -> None:
    """An entry that cannot be decoded aborts the recovery sweep."""
    edit(reaper, "_RECOVER", "local kept = false", "if not head then error('not a task') end\n  local kept = false")


@mutant(expects="NEEDS_TRAFFIC", breaks="I4", profile=QUIET)
def recovery_needs_traffic() -> None:
    """The recovery sweep runs only after a new task was claimed."""
    claimed = []

    def admit(self: Any, entries: Any) -> None:
        entries = list(entries)
        claimed.extend(entries)
        admit_all(self, entries)

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
    """Leases are set and checked with the local clock of each process, not with the clock of Redis."""
    read = "local now = time[1] * 1000 + math.floor(time[2] / 1000)"

    def command(self: Any, keys: Sequence[str], arguments: Sequence[Any]) -> tuple[Any, ...]:
        own = self.source.replace(read, f"local now = {time.time_ns() // 1_000_000}")
        return ("EVAL", own, len(keys), *keys, *arguments)

    def sweep(self: Any) -> Sweep:
        ended: Any = self._client.zrangebyscore(self._keys.consumers, "-inf", time.time_ns() // 1_000_000)
        return Sweep(sum(self.recover(name) for name in self._ours(ended)), self.promote())

    patch(Script, "command", command)
    patch(Reaper, "sweep", sweep)


@mutant(expects="RECOVERS_IN_ORDER", breaks="I7", profile=FULL_HANDS)
def recovery_lowest_number_first() -> None:
    """The tasks of a dead worker return in reverse order: the newest is claimed first."""
    edit(reaper, "_RECOVER", "return place(a) > place(b)", "return place(a) < place(b)")


@mutant(breaks="I4", profile=DEFAULT, blind_spot="A recovery is seldom cut off between two of its steps.")
def recovery_forgets_who_holds_more() -> None:
    """The first recovery step removes a dead worker from the registry, even if it holds more tasks."""
    edit(reaper, "_RECOVER", REMOVES_THE_CONSUMER, REMOVES_THE_CONSUMER.replace("if left == 0 then", "do"))


@mutant(breaks="I4", profile=DEFAULT, blind_spot=LOOKS_AGAIN)
def recovery_does_not_ring() -> None:
    """Recovered tasks do not ring the bell."""
    edit(reaper, "_RECOVER", "ring()\nreturn {recovered", "return {recovered")


@mutant(breaks="I4", profile=DEFAULT, blind_spot=LOOKS_AGAIN)
def promotion_does_not_ring() -> None:
    """Scheduled tasks and retries that become due do not ring the bell."""
    edit(reaper, "_PROMOTE", "if moved > 0 then ring() end", "")


@mutant(expects="LOST", breaks="I1", profile=BAD_LINE)
def promotion_in_two_steps() -> None:
    """A task that becomes due is removed by one command and pushed by the next."""

    def in_two_steps(client: redis.Redis, keys: Sequence[str], _arguments: Sequence[Any]) -> int:
        now: Any = client.time()
        due: Any = client.zrangebyscore(keys[4], "-inf", now[0] * 1000 + now[1] // 1000, start=0, num=1)
        if not due or not client.zrem(keys[4], *due):
            return 0
        client.lpush(keys[2], *due)
        ring(client, keys[:4])
        return len(due)

    patch(reaper, "_PROMOTE", in_two_steps)


@mutant(breaks="I1", profile=DEFAULT, blind_spot="No run has a dead-letter stream that refuses anything.")
def refused_burial_removes() -> None:
    """A recovered task is removed even if the dead-letter stream refuses it, as when the key has another type."""
    edit(reaper, "_RECOVER", "kept = refused ~= nil", "kept = false")
