"""Checks the files of the workers' ledger, which programs in any language write (docs/ledger.md)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .events import Effect, Event, Ledger, Run

LATEST_S = 60.0
"""Seconds after the harness's last line in which a process that outlives a killed harness may still write."""
PAGE = "docs/ledger.md says what a line must be"

_NAME = re.compile(r"worker-([0-9]+)\.jsonl", re.ASCII)
_OTHERS = re.compile(r"(before-)?(harness|agent|load|worker)-[0-9]+\.jsonl", re.ASCII)
"""Files that the harness's own processes write, or that it copies from an earlier run."""
_UNITS = {"milliseconds": 10**6, "microseconds": 10**3, "seconds": 10**9}
_DAYS = [(14 * 10**digits, 40 * 10**digits) for digits in (17, 14, 11, 8)]
"""Ranges from 2014 to 2096, in nanoseconds, microseconds, milliseconds and seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """When a run began and ended, ns of CLOCK_MONOTONIC."""

    since_t: int
    until_t: int

    def wrong(self, t: int) -> str | None:
        """Return a clause on why a worker of the run can't have written this time; None: it can."""
        if self.since_t <= t <= self.until_t:
            return None
        for unit, factor in _UNITS.items():
            if self.since_t - factor <= t * factor <= self.until_t + factor:
                return f"it looks like {unit}"
        if any(first < t < last for first, last in _DAYS):
            return "it looks like the time of day"
        return "which is before the run began" if t < self.since_t else "which is after the run ended"


def is_ledger(path: Path) -> bool:
    """Return whether the path is a file of the workers' ledger, or was meant to be one."""
    return bool(_NAME.fullmatch(path.name)) or not _OTHERS.fullmatch(path.name)


def bounds_of(events: Sequence[Event]) -> Bounds | None:
    """Return the bounds of a run from the harness's own events; None: they lack its begin."""
    begun = [event.t for event in events if isinstance(event, Run) and event.phase == "begin"]
    if not begun:
        return None
    return Bounds(min(begun), max(event.t for event in events) + int(LATEST_S * 1e9))


def complaint(path: Path, lines: Sequence[tuple[int, str]], *, t: int) -> Ledger:
    """Return the event that reports all invalid lines of a file. `lines`: number and error of each."""
    if _NAME.fullmatch(path.name):
        (number, wrong), *others = lines
        also = f" {len(lines):,} lines of this file are wrong." if others else ""
        reason = f"{path.name}, line {number}: {wrong}; {PAGE}.{also}"
    else:
        reason = (
            f"{path.name} is not a name of a ledger's file: the process with the id PID writes worker-PID.jsonl into "
            f"the folder that ZEROLOSS_LEDGER names; {PAGE}."
        )
    return Ledger(t=t, pid=0, phase="wrong", reason=reason)


def wrong(path: Path, event: Event, bounds: Bounds | None) -> str | None:
    """Return a clause on why a line of a ledger's file can't be true; None: it can."""
    name = _NAME.fullmatch(path.name)
    if name is None:
        return "its name"
    if not isinstance(event, Effect):
        return "`kind` must be effect"
    if event.pid != int(name[1]):
        return f"`pid` is {event.pid}, and the file is that of process {name[1]}"
    if bounds and (clause := bounds.wrong(event.t)):
        return f"`t` is {event.t}, {clause}, and must be nanoseconds of CLOCK_MONOTONIC as the kernel counts them"
    return None
