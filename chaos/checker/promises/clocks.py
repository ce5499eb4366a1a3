"""Tolerance for the length of a wait: two clocks differ, and one may have been set meanwhile."""

from ..evidence import Evidence

SECOND = 1_000_000_000
EARLY_SHARE = 0.05
EARLY_S = 0.01
"""Seconds by which two clocks may differ on the length of a wait, in addition to `EARLY_SHARE` of it."""


def shortest(wait_s: float) -> float:
    """Return the shortest time, in ns, that a wait of `wait_s` seconds may seem to last."""
    return (wait_s * (1 - EARLY_SHARE) - EARLY_S) * SECOND


def in_doubt(evidence: Evidence, from_t: int, until_t: int) -> bool:
    """Return whether a fault of the server, or of clocks, was active in this span, or the machine's clock was set."""
    return evidence.clock_was_set(from_t, until_t) or any(
        fault.everywhere and fault.during(from_t, until_t) for fault in evidence.faults.values()
    )
