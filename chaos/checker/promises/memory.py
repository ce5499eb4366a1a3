"""What a queue may not do while its server's memory is full: promise more.

That what was accepted goes on is judged by what it states of starts, retries and recoveries: see `lateness`.
"""

from ..evidence import Evidence
from ..stated import option


def accepted_of(evidence: Evidence) -> list[str]:
    """The tasks that were submitted and accepted while the server's memory was full."""
    if option(evidence.begin, "drains_when_full") is not True:
        return []
    full = [fault.lasted for fault in evidence.faults.values() if fault.traits.fills_memory and fault.lasted]
    return [
        name
        for name, task in evidence.tasks.items()
        if task.invoked_t is not None
        and task.ok_t is not None
        and any(from_t <= task.invoked_t and task.ok_t <= until_t for from_t, until_t in full)
    ]
