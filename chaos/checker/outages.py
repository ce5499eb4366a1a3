"""Outages that each worker saw: several server faults are one outage to a worker that did not recover in between."""

from collections import Counter

from .evidence import Evidence
from .stated import option


def outages_of(evidence: Evidence) -> list[str]:
    """Return a sentence on the faults that hit all workers; empty: no such fault, or `met` was not recorded."""
    struck = [
        fault.met for fault in evidence.faults.values() if fault.effective_t is not None and fault.met is not None
    ]
    if not struck:
        return []
    workers = option(evidence.begin, "workers")
    seen = Counter(number for met in struck for number in met)
    counts = [seen[number] for number in range(1, workers + 1)] if isinstance(workers, int) else list(seen.values())
    if not counts:
        return []
    least, most = min(counts), max(counts)
    share = f"{least}" if least == most else f"{least} to {most}"
    return [
        f"Of {len(struck)} faults that hit the server or all workers, each worker met {share} as separate outages: it "
        "had completed a task since the fault before."
    ]
