"""Which lost tasks the server's durability explains: a pure function of the history.

A crash loses the end of what was written, never a part in the middle: a server restarts on a prefix of its writes. So a
promised task can be excused only if its promise may lie in the lost end. A task promised earlier is in every prefix
that may remain, wherever it stood in the queue, and is LOST however much else the crash took.

| the server, when the run began         | killed, or dead of a failed write    | stopped in order     |
| -------------------------------------- | ------------------------------------ | -------------------- |
| AOF, fsync always                      | nothing                              | nothing              |
| AOF, fsync every second                | up to 2 s: while an fsync is slow,   | nothing              |
|                                        | Redis delays a write by up to that   |                      |
| AOF, fsync left to the kernel          | nothing: each write has been handed  | nothing              |
|                                        | to the kernel before its answer      |                      |
| no AOF                                 | everything (since a snapshot whose   | everything, without  |
|                                        | time was not recorded)               | snapshots; else nothing |
| unknown, as it hides its configuration | nothing                              | nothing              |

A failover loses the writes that the promoted replica had not received. Up to the beginning of the fault every replica
had everything. So a failover excuses tasks promised from then until clients reach the new primary. If the queue was
configured to have each task confirmed by a replica (`replicas:N`), nothing is excused.

If the queue was configured to confirm each task by an fsync, an append-only file excuses nothing. An eviction excuses
nothing either: a queue that promises tasks on a Redis configured to evict keys breaks its promise.
https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..history import Run
from .evidence import Evidence, FaultRecord
from .spans import Spans
from .verdicts import Excuse, FaultRef

SLOW_FSYNC_S = 2
"""Longest time, in seconds, by which Redis under `everysec` delays a write while an fsync is in progress."""
SEEN_AFTER_MS = 1_000
"""Longest time, in ms, from the end of a server with slow fsyncs to its record, if the machine is not overloaded."""


@dataclass(frozen=True, slots=True)
class Crash:
    """One end of the server under a fault. It sent no answer after `t`, ns. `ordered`: it shut down in order."""

    fault: FaultRecord
    t: int
    ordered: bool


@dataclass(frozen=True, slots=True)
class Window:
    """A span in ns: a crash may lose writes that were acknowledged in it."""

    fault: FaultRecord
    from_t: int
    until_t: int
    why: str
    end: str = "the server ended"
    """Clause on what happened at `until_t`."""


def excuses_of(evidence: Evidence) -> dict[str, Excuse]:
    """Return an excuse for each promised task that a crash may have lost; if the task is gone, it is EXCUSED."""
    first_window = windows_of(evidence)
    excuses = {}
    for name, task in evidence.tasks.items():
        if task.invoked_t is None or task.ok_t is None:
            continue
        # The promise was made at some time between the first attempt and the answer.
        window = first_window(task.invoked_t, task.ok_t)
        if window:
            promised_s = (task.ok_t - evidence.first_t) / 1e9
            ended_s = (window.until_t - evidence.first_t) / 1e9
            excuses[name] = Excuse(
                task=name,
                fault=FaultRef(window.fault.number, window.fault.name),
                reason=f"Promised at {promised_s:.3f} s; {window.end} at {ended_s:.3f} s, and {window.why}.",
            )
    return excuses


def windows_of(evidence: Evidence, *, promises: bool = True) -> Callable[[int, int], Window | None]:
    """Return a function from a time span to the loss window that overlaps it; of several, the first to end.

    There is a window for each crash that may lose something. A write is lost in the first crash that can lose it.
    `promises`: look for losses of promised tasks, for which the queue may have requested confirmation; else for losses
    of its other writes, which are never confirmed.
    """
    asked = str(_kept(evidence.begin).get("asked")) if promises else ""
    windows = [] if asked.startswith("replicas:") else failovers_of(evidence)
    for crash in crashes_of(evidence):
        taken = _taken(evidence.begin, asked, ordered=crash.ordered)
        if taken is None:
            continue
        seconds, why = taken
        from_t = evidence.first_t if seconds is None else _ending_t(evidence, crash) - seconds * 1_000_000_000
        windows.append(Window(crash.fault, from_t, crash.t, why))
    # Times are negated, so that `during` yields the window that ends first before the others.
    turned = Spans(((-window.until_t, -window.from_t), window) for window in windows)
    return lambda from_t, until_t: next(turned.during((-until_t, -from_t)), None)


def _ending_t(evidence: Evidence, crash: Crash) -> int:
    """Return the earliest time, in ns, at which the server may have ended: its end is recorded only after it was seen.

    That is the begin of the fault. But a server with slow fsyncs goes on promising and writing for seconds after it:
    its end can be earlier than its record only by as much as that record may be late.
    """
    if crash.fault.traits.ends_late:
        late_ms = max((one.late_ms for one in evidence.late), default=0)
        return crash.t - SEEN_AFTER_MS * 1_000_000 - late_ms * 1_000_000
    return crash.t if crash.fault.begin_t is None else crash.fault.begin_t


def failovers_of(evidence: Evidence) -> list[Window]:
    """Return a window for each failover: from its beginning until clients followed the new primary.

    Before it acts, the fault waits until every replica has all writes from before its begin.
    """
    healed_t = evidence.phases.get("healed", evidence.last_t)
    return [
        Window(
            fault,
            fault.begin_t,
            # A promotion that the fault no longer waited for came, if at all, before the fault was healed.
            next(t for t in (fault.effective_t, fault.end_t, healed_t) if t is not None),
            "with asynchronous replication a failover may take what no replica had confirmed",
            "clients followed the new primary",
        )
        for fault in evidence.faults.values()
        if fault.traits.fails_over and fault.begin_t is not None
    ]


def crashes_of(evidence: Evidence) -> list[Crash]:
    """Return the ends of the server that faults caused, in order, without the one at the end of the run."""
    exits = [(gone.t, gone.status) for gone in evidence.exits if gone.role == "server"]
    exits_t = [t for t, _ in exits]
    faults = sorted(
        ((fault.begin_t, fault) for fault in evidence.faults.values() if fault.begin_t is not None),
        key=lambda one: one[0],
    )
    healed_t = evidence.phases.get("healed", evidence.last_t)
    crashes = []
    for position, (begin_t, fault) in enumerate(faults):
        if fault.traits.fails_over:
            continue  # a replaced primary copies the new primary's data: its disk does not matter
        next_t = faults[position + 1][0] if position + 1 < len(faults) else healed_t
        # A fault that killed the server counts even if it was recorded as missed afterwards.
        until_t = next_t if fault.effective_t is None else fault.effective_t
        within = slice(bisect_left(exits_t, begin_t), bisect_right(exits_t, until_t))
        seen = [Crash(fault, t, ordered=status == 0) for t, status in exits[within]]
        # Without a recorded exit, as in a container, the fault's traits say how the server ended.
        if not seen and fault.effective_t is not None and fault.traits.ends_server != "no":
            seen = [Crash(fault, fault.effective_t, ordered=fault.traits.ends_server == "stopped")]
        crashes += seen
    return crashes


def _kept(begin: Run | None) -> Mapping[str, Any]:
    return begin.durability if begin and isinstance(begin.durability, Mapping) else {}


def _taken(begin: Run | None, asked: str, *, ordered: bool) -> tuple[int | None, str] | None:
    """Return (seconds before the end that may be lost, why); None for seconds: everything. None: nothing is lost."""
    kept = _kept(begin)
    if kept.get("appendonly") is False:
        if not ordered:
            since = " since its last snapshot" if kept.get("save") else ""
            return None, f"without an append-only file that takes everything{since}"
        return None if kept.get("save") else (None, "without file or snapshots that takes everything")
    slow_fsync = kept.get("appendonly") is True and kept.get("appendfsync") == "everysec" and not ordered
    if slow_fsync and asked != "fsync":
        return SLOW_FSYNC_S, f"with an fsync every second a kill may take what came up to {SLOW_FSYNC_S} s before it"
    return None
