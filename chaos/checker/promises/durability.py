"""Whether tasks are promised before they are as durable as the run demands."""

from ..evidence import Evidence
from .memory import accepted_in


def unsafe_of(evidence: Evidence) -> list[str]:
    """Return the tasks that were submitted and accepted while no write reached the server's disk (I1).

    Only where the run demands that a promised task is on disk.
    """
    if asked_of(evidence) != "fsync":
        return []
    kept = [fault.lasted for fault in evidence.faults.values() if fault.traits.keeps_from_disk and fault.lasted]
    return accepted_in(evidence, kept)


def asked_of(evidence: Evidence) -> str | None:
    """Return the durability that a task must have before it is promised; None if the run demands none."""
    durability = evidence.begin.durability if evidence.begin else None
    asked = durability.get("asked") if isinstance(durability, dict) else None
    return asked if isinstance(asked, str) else None
