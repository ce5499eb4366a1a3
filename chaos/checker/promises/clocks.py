"""By how much a wait may seem shorter than it was: two clocks differ, and one may have been set meanwhile."""

from ..evidence import Evidence

SECOND = 1_000_000_000
EARLY_SHARE = 0.05
EARLY_S = 0.01
"""By this share, and this much, two clocks may differ on how long a wait was."""


def shortest(wait_s: float) -> float:
    """What a wait of that many seconds may look like, ns."""
    return (wait_s * (1 - EARLY_SHARE) - EARLY_S) * SECOND


def in_doubt(evidence: Evidence, from_t: int, until_t: int) -> bool:
    """A fault of the server, or of clocks, was under way at some moment of this time."""
    return any(fault.everywhere and fault.during(from_t, until_t) for fault in evidence.faults.values())
