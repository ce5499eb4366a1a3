"""What a schedule is played on: which tasks come when, how they behave, and which processes there are."""

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
"""A lease, one sweep, and a tick of the clock. What goes wrong puts it off: see the judge."""
PAYLOADS = ("1.10", "[]", "12345678901234567890123")


@dataclass(frozen=True, kw_only=True, repr=False)
class Wish:
    """One task. `behaviour`: '', 'raises once', 'raises', 'kills' (its process), 'slow', 'unknown type'."""

    behaviour: str = ""
    at_ms: int = 0
    """Not submitted before that."""
    priority: str = ""
    delay_ms: int = 0
    """As its submission says."""

    def __repr__(self) -> str:
        told = {each.name: getattr(self, each.name) for each in fields(self)}
        return f"Wish({', '.join(f'{name}={value!r}' for name, value in told.items() if value)})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Scenario:
    """The producer's tasks are t-0, t-1 and so on, in the order of `wishes`."""

    wishes: tuple[Wish, ...] = (Wish(), Wish())
    producers: int = 1
    """Each of them submits all tasks, with the same keys: as a client does that asks another instance again."""
    workers: int = 1
    reapers: int = 1
    keyed: bool = True
    """Each submission has an idempotency key, and is repeated while its outcome is unknown."""
    undecodable: bool = False
    """Something that is not a task lies in pending from the beginning."""
    orphans: tuple[str, ...] = ()
    """A consumer whose lease has ended holds these: 'undecodable' or ids."""
    twins: bool = False
    """Two equal tasks are scheduled at one instant, for later than the end."""
    refused_until_ms: int = 0
    """Until then nothing can be buried: another key lies in the place of the dead letters."""
    requeued_at_ms: int = 0
    """Then an operator requeues what was given up."""
    went_before: int = 0
    """That many tasks were enqueued, and have come to their ends."""
    ahead_ms: int = 0
    """By so much the reaper's clock of the day is ahead."""
    faults: tuple[str, ...] = ("lost", "unsent", "crash", "sleep")
    """Of `stage.FAULTS`: what may happen, beside an order of the commands."""
    settings: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        """As it is written, so that it can be copied from a story; what is as usual is left out."""
        usual = Scenario()
        told = ((each.name, getattr(self, each.name)) for each in fields(self))
        return f"Scenario({', '.join(f'{name}={value!r}' for name, value in told if value != getattr(usual, name))})"
