"""The history of every task, packed for the page: columns of small numbers, gzip, base64.

The alphabet of base64 needs no escaping inside HTML, whatever the task ids and error texts hold. Times are tenths of a
millisecond since the run began; a column marked with a delta holds differences to the row before.
"""

import base64
import gzip
from collections.abc import Collection, Iterable
from typing import Any

import msgspec

from ..checker.verdicts import LIVENESS_DEFECTS, VIOLATIONS, Fate, Result
from ..history import Census, Effect, Event, Fault, Poke, Process, Run, Submit
from .traffic import traffic

TICK_NS = 100_000
TEXT_CHARACTERS_MAX = 300
PACKED_BYTES_MAX = 4_200_000
"""Limit on the packed data: with its tables the page stays below 5 MB."""

_OUTCOMES = {"ok": 1, "fail": 2, "info": 3}
_ENDS = {"end": 1, "error": 2}


def pack(events: Iterable[Event], result: Result) -> tuple[str, int]:
    """Return the packed data, and the number of tasks that were left out to stay within bounds.

    Tasks with another outcome than DONE are kept before the others.
    """
    ordered = sorted(events, key=lambda event: event.t)
    plain = [task for task, fate in result.fates.items() if fate is Fate.DONE]
    special = [task for task, fate in result.fates.items() if fate is not Fate.DONE]
    kept = special + plain
    while True:
        packed = _packed(ordered, result, frozenset(kept))
        if len(packed) <= PACKED_BYTES_MAX:
            return packed, len(plain) + len(special) - len(kept)
        kept = kept[: int(len(kept) * 0.9 * PACKED_BYTES_MAX / len(packed))]


def _packed(ordered: list[Event], result: Result, kept: Collection[str]) -> str:
    document = _Columns(ordered[0].t if ordered else 0, result, kept).read(ordered)
    document["traffic"] = traffic(ordered, result, TICK_NS) if result.load else None
    # mtime=0: the same run gives the same page, byte for byte.
    return base64.b64encode(gzip.compress(msgspec.json.encode(document), compresslevel=9, mtime=0)).decode("ascii")


class _Columns:
    """Reads events in order of time into columns."""

    def __init__(self, first_t: int, result: Result, kept: Collection[str]) -> None:
        self._first_t = first_t
        self._result = result
        self._at_workers = {fault.number for fault in result.faults if fault.aims_at == "worker"}
        self._kept = kept
        self._rows: dict[str, int] = {}
        self._ids: list[str] = []
        self._invoked: list[int] = []
        self._outcome: list[int] = []
        self._answered: list[int] = []
        self._execution_rows: dict[tuple[str, str], int] = {}
        self._executions: dict[str, list[int]] = {
            name: [] for name in ("task", "pid", "begin", "length", "end", "attempt")
        }
        self._extras: list[list[Any]] = []
        self._pids: dict[int, int] = {}
        self._spans: dict[int, list[int]] = {}
        self._gone: dict[int, str] = {}
        self._phases: list[list[Any]] = []
        self._pokes: list[list[Any]] = []
        self._faults: dict[int, dict[str, Any]] = {}

    def read(self, ordered: list[Event]) -> dict[str, Any]:
        for event in ordered:
            tick = (event.t - self._first_t) // TICK_NS
            if isinstance(event, Effect):
                self._effect(event, tick)
            elif isinstance(event, Submit):
                self._submit(event, tick)
            elif isinstance(event, Fault):
                self._fault(event, tick)
            elif isinstance(event, Process):
                self._process(event, tick)
            elif isinstance(event, Census):
                if event.task is not None and event.task in self._kept:
                    reason = f": {event.reason}" if event.reason else ""
                    text = f"found in {event.place or 'unknown'} after {event.after or 'the run'}{reason}"
                    self._extra(event.task, tick, text)
            elif isinstance(event, Poke):
                self._pokes.append([tick, event.phase])
            elif isinstance(event, Run):
                self._phases.append([tick, event.phase])
        return self._document((ordered[-1].t - self._first_t) // TICK_NS if ordered else 0)

    def _row(self, task: str, tick: int) -> int:
        row = self._rows.get(task)
        if row is None:
            row = self._rows[task] = len(self._ids)
            self._ids.append(task)
            self._invoked.append(tick)
            self._outcome.append(-1)
            self._answered.append(0)
        return row

    def _submit(self, event: Submit, tick: int) -> None:
        if event.task not in self._kept:
            return
        row = self._row(event.task, tick)
        if event.phase == "invoke" and self._outcome[row] == -1:
            self._outcome[row] = 0
        elif event.phase != "invoke" and self._outcome[row] == 0:
            self._outcome[row] = _OUTCOMES[event.phase]
            self._answered[row] = tick - self._invoked[row]
            if event.error:
                self._extra(event.task, tick, f"the answer was: {event.error}")
        else:
            self._extra(
                event.task, tick, f"submission again: {event.phase}" + (f": {event.error}" if event.error else "")
            )

    def _effect(self, event: Effect, tick: int) -> None:
        span = self._spans.setdefault(event.pid, [tick, tick])
        span[1] = max(span[1], tick)
        self._pids.setdefault(event.pid, len(self._pids))
        if event.task not in self._kept:
            return
        key = (event.task, event.execution)
        row = self._execution_rows.get(key)
        columns = self._executions
        if row is None:
            row = self._execution_rows[key] = len(columns["task"])
            columns["task"].append(self._row(event.task, tick))
            columns["pid"].append(self._pids[event.pid])
            columns["begin"].append(tick)
            columns["length"].append(0)
            columns["end"].append(0)
            columns["attempt"].append(event.attempt or 0)
        if event.phase != "begin":
            columns["length"][row] = tick - columns["begin"][row]
            columns["end"][row] = _ENDS[event.phase]
            if event.error:
                self._extra(event.task, tick, f"the error was: {event.error}")

    def _fault(self, event: Fault, tick: int) -> None:
        fault = self._faults.setdefault(event.number, {"number": event.number, "name": event.fault, "pids": []})
        fault.setdefault(event.phase, tick)
        if event.phase == "effective":
            fault["pids"] = list(event.pids)
            for pid in event.pids:
                if pid in self._spans and event.number in self._at_workers:
                    self._spans[pid][1] = max(self._spans[pid][1], tick)
                    # The harness sees the exit before the fault is on record as effective; the fault says more.
                    if not self._gone.get(pid, "").startswith("fault"):
                        self._gone[pid] = f"fault {event.number} ({event.fault})"
        text = event.evidence or event.reason
        if text:
            fault["text"] = text[:TEXT_CHARACTERS_MAX]

    def _process(self, event: Process, tick: int) -> None:
        pid = event.sid or event.pid
        if event.role != "worker":
            return
        span = self._spans.setdefault(pid, [tick, tick])
        span[1] = max(span[1], tick)
        if event.phase == "exit":
            self._gone.setdefault(pid, "by the harness" if event.wanted else f"by itself, status {event.status}")

    def _extra(self, task: str, tick: int, text: str) -> None:
        self._extras.append([self._row(task, tick), tick, text[:TEXT_CHARACTERS_MAX]])

    def _document(self, last: int) -> dict[str, Any]:
        for fault in self._result.faults:
            if fault.number in self._faults:
                struck = [self._rows[task] for task in fault.tasks_hit if task in self._rows]
                self._faults[fault.number]["struck"] = struck
        names = list(Fate)
        told = {story.task for story in self._result.stories}
        defects = VIOLATIONS | LIVENESS_DEFECTS
        lanes = self._lanes()
        executions = self._executions
        return {
            "last": last,
            "fates": [fate.value for fate in names],
            "ids": self._ids,
            "wrong": [row for row, task in enumerate(self._ids) if task in told or self._result.fates[task] in defects],
            "fate": [names.index(self._result.fates[task]) for task in self._ids],
            "invoked_delta": _deltas(self._invoked),
            "outcome": self._outcome,
            "answered": self._answered,
            "task_delta": _deltas(executions["task"]),
            "pid": executions["pid"],
            "begin_delta": _deltas(executions["begin"]),
            "length": executions["length"],
            "end": executions["end"],
            "attempt": executions["attempt"],
            "extras": self._extras,
            "processes": [
                {
                    "pid": pid,
                    "from": self._spans[pid][0],
                    "to": self._spans[pid][1],
                    "lane": lanes[pid],
                    "gone": self._gone.get(pid),
                }
                for pid in self._pids
            ],
            "faults": [self._faults[number] for number in sorted(self._faults)],
            "phases": self._phases,
            "pokes": self._pokes,
        }

    def _lanes(self) -> dict[int, int]:
        """Assign rows. A process reuses the row of one that ended: fifty restarts of four workers fill four rows."""
        free_from: list[int] = []
        lanes = {}
        for pid in sorted(self._pids, key=lambda pid: self._spans[pid][0]):
            begin, end = self._spans[pid]
            # The row that became free last is most likely the predecessor's.
            free = [lane for lane, until in enumerate(free_from) if until <= begin]
            lane = max(free, key=lambda lane: free_from[lane], default=len(free_from))
            if lane == len(free_from):
                free_from.append(end)
            free_from[lane] = end
            lanes[pid] = lane
        return lanes


def _deltas(column: list[int]) -> list[int]:
    return [after - before for before, after in zip([0, *column], column, strict=False)]
