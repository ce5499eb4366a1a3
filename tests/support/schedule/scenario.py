"""The setting of a schedule: its tasks, their times and behaviours, and its processes."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

LEASE_MS = 60_000
SWEEP_MS = 25_000
BOUNDS = {
    "lease_ms": LEASE_MS,
    "renew_ms": LEASE_MS // 3,
    "sweep_ms": SWEEP_MS,
    "block_ms": 10 * LEASE_MS,
    "threads": 1,
    "max_retries": 1,
    "max_recoveries": 2,
}
RECOVERED_WITHIN_MS = LEASE_MS + 2 * SWEEP_MS
"""A lease, one sweep, and a tick of the clock. Faults extend it: see `Judge.put_off_ms`."""
PAYLOADS = ("1.10", "[]", "12345678901234567890123")


@dataclass(frozen=True, kw_only=True, repr=False)
class Wish:
    """One task. `behaviour`: '', 'raises once', 'raises', 'kills' (its process), 'slow', 'unknown type'."""

    behaviour: str = ""
    at_ms: int = 0
    """Earliest time of submission, after the start."""
    priority: str = ""
    delay_ms: int = 0
    """Delay stated in the submission."""

    def __repr__(self) -> str:
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        return f"Wish({', '.join(f'{name}={value!r}' for name, value in told.items() if value)})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Scenario:
    """Tasks and processes of a schedule. The tasks of the producer are t-0, t-1, ..., in the order of `wishes`."""

    wishes: tuple[Wish, ...] = (Wish(), Wish())
    producers: int = 1
    """Each producer submits all tasks with the same keys, like a client that repeats a request at another instance."""
    workers: int = 1
    reapers: int = 1
    keyed: bool = True
    """Whether each submission has an idempotency key and is repeated while its outcome is unknown."""
    undecodable: bool = False
    """Whether pending initially contains an entry that cannot be decoded."""
    orphans: tuple[str, ...] = ()
    """Entries held by a consumer whose lease has ended: ids, or 'undecodable'."""
    twins: bool = False
    """Whether two equal tasks are scheduled at one instant, and checked before the schedule starts."""
    refused_until_ms: int = 0
    """Time until which dead-lettering fails, because a key of another type is in the place of dead_letter; 0: off."""
    requeued_at_ms: int = 0
    """Time at which an operator requeues all dead letters; 0: never."""
    went_before: int = 0
    """Number of tasks that were enqueued and finished before."""
    ahead_ms: int = 0
    """How far the reapers' wall clock is ahead."""
    faults: tuple[str, ...] = ("lost", "unsent", "crash", "sleep")
    """Faults that may happen, from `stage.FAULTS`, beside any order of the commands."""
    settings: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return Python source that can be copied from a story; fields with default values are omitted."""
        usual = Scenario()
        told = ((each.name, getattr(self, each.name)) for each in fields(self))
        return f"Scenario({', '.join(f'{name}={value!r}' for name, value in told if value != getattr(usual, name))})"
