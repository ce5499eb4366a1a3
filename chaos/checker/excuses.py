"""Which lost tasks the server's durability explains: a pure function of the history.

A crash takes the end of what was written, never something out of the middle: a server starts again on a prefix of its
writes. So a promised task can be excused only if its promise may lie in that end. One that was promised before is in
every prefix that is left, wherever it stood in the queue, and is LOST however much else was taken.

| the server, when the run began         | killed, or dead of a failed write    | stopped in order     |
| -------------------------------------- | ------------------------------------ | -------------------- |
| AOF, fsync always                      | nothing                              | nothing              |
| AOF, fsync every second                | up to 2 s: while an fsync is slow,   | nothing              |
|                                        | Redis holds a write back that long     |                      |
| AOF, fsync left to the kernel          | nothing: each write has been handed  | nothing              |
|                                        | to the kernel before its answer      |                      |
| no AOF                                 | everything (since a snapshot whose   | everything, without  |
|                                        | time nobody recorded)                | snapshots; else nothing |
| unknown, as it hides its configuration | nothing                              | nothing              |

A failover takes what the promoted replica had not got: of what was promised between the beginning of the fault, up to
which every replica had everything, and the moment in which clients reach the new primary. Where the queue was told to
have each task confirmed by a replica (`replicas:N`), nothing is excused.

Where the queue was told to confirm each task by an fsync, an append-only file excuses nothing. An eviction excuses
nothing either: Redis is configured to evict keys, and a queue that promises nevertheless breaks its promise.
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
"""How long Redis puts off a write while an fsync is under way, under `everysec`."""
SEEN_AFTER_MS = 1_000
"""So late may the end of a server that went on for seconds be on record, without a sign that the machine is slow."""


@dataclass(frozen=True, slots=True)
class Crash:
    """One end of the server under a fault. `t` is ns, and no answer came after it; `ordered`: it ended as asked."""

    fault: FaultRecord
    t: int
    ordered: bool


@dataclass(frozen=True, slots=True)
class Window:
    """What a crash may take: what was acknowledged from `from_t` to `until_t`, ns."""

    fault: FaultRecord
    from_t: int
    until_t: int
    why: str
    end: str = "the server ended"
    """What happened at `until_t`."""


def excuses_of(evidence: Evidence) -> dict[str, Excuse]:
    """The promised tasks that a crash may have taken: of these, the ones that are gone are EXCUSED."""
    first_window = windows_of(evidence)
    excuses = {}
    for name, task in evidence.tasks.items():
        if task.invoked_t is None or task.ok_t is None:
            continue
        # The promise was made at some moment from the first attempt to its answer.
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
    """What finds the window of a time, from and to: of those that have a part of it the first to end.

    There is one for each crash that may take something. What is gone, the first that could has taken. `promises`: of
    promised tasks, which the queue may have been told to have confirmed; else of its other writes, which it has not.
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
    # Turned around in time: those that end first are found first.
    turned = Spans(((-window.until_t, -window.from_t), window) for window in windows)
    return lambda from_t, until_t: next(turned.during((-until_t, -from_t)), None)


def _ending_t(evidence: Evidence, crash: Crash) -> int:
    """From when on the server may have been ending, as its end is on record only once it was seen: ns.

    While its fsync is slow, it goes on promising and writing for seconds before it is killed: it is no older than that
    record can be late.
    """
    if crash.fault.traits.ends_late:
        late_ms = max((one.late_ms for one in evidence.late), default=0)
        return crash.t - SEEN_AFTER_MS * 1_000_000 - late_ms * 1_000_000
    return crash.t if crash.fault.begin_t is None else crash.fault.begin_t


def failovers_of(evidence: Evidence) -> list[Window]:
    """From the beginning of each failover to when clients followed.

    The fault waits, before it hits, until every replica has what was written before it began.
    """
    healed_t = evidence.phases.get("healed", evidence.last_t)
    return [
        Window(
            fault,
            fault.begin_t,
            # A promotion that came too late for the fault has come, if it did, before the fault was healed.
            next(t for t in (fault.effective_t, fault.end_t, healed_t) if t is not None),
            "with asynchronous replication a failover may take what no replica had confirmed",
            "clients followed the new primary",
        )
        for fault in evidence.faults.values()
        if fault.traits.fails_over and fault.begin_t is not None
    ]


def crashes_of(evidence: Evidence) -> list[Crash]:
    """The ends of the server that a fault brought about, in their order, without the one at the end of the run."""
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
            continue  # the disk of a primary that was replaced does not matter: it takes over what the new one has
        next_t = faults[position + 1][0] if position + 1 < len(faults) else healed_t
        # A fault that killed the server and was missed after that, took what it took.
        until_t = next_t if fault.effective_t is None else fault.effective_t
        within = slice(bisect_left(exits_t, begin_t), bisect_right(exits_t, until_t))
        seen = [Crash(fault, t, ordered=status == 0) for t, status in exits[within]]
        # Its exit is not on record, as in a container: then the fault itself says how it ended.
        if not seen and fault.effective_t is not None and fault.traits.ends_server != "no":
            seen = [Crash(fault, fault.effective_t, ordered=fault.traits.ends_server == "stopped")]
        crashes += seen
    return crashes


def _kept(begin: Run | None) -> Mapping[str, Any]:
    return begin.durability if begin and isinstance(begin.durability, Mapping) else {}


def _taken(begin: Run | None, asked: str, *, ordered: bool) -> tuple[int | None, str] | None:
    """(seconds before the end, why); None for seconds: everything. None: nothing may be taken."""
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
