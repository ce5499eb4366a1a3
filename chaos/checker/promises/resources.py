"""Resources that grow with the number of disturbances: connections, descriptors, threads or memory that leak.

A series holds the samples of one worker's session, or of the server, cut into stretches between the disturbances that
took effect. A worker's series begins with its first task. The server's begins when as many workers as planned have
begun a task: until then it grows because workers start. Growth is a leak only if the minimum of the last stretch
exceeds the maximum of the first by the threshold, if the second half of the stretches still grows, and if several
stretches grew. So a peak while workers reconnect, a warm-up, or a pool that was enlarged once is not a leak.
"""

from bisect import bisect_right
from collections.abc import Iterator

from ...history import Resources
from ..evidence import Evidence
from ..stated import option
from ..verdicts import Leak, Usage

DISTURBANCES_MIN = 4
TOTAL_MIN = {"clients": 10, "descriptors": 10, "threads": 10, "memory_bytes": 64 * 2**20}
"""Least growth in all that is a leak."""
PER_DISTURBANCE = {"clients": 1.0, "descriptors": 1.0, "threads": 1.0, "memory_bytes": 4 * 2**20}
"""Least growth per disturbance that is a leak, over the whole run and over its second half."""
RISES_MIN = 3
"""Number of stretches whose minimum must exceed all earlier minima by `PER_DISTURBANCE`."""
SERVER_MEMBERS = ("clients", "keys", "keys_expiring")
WORKER_MEMBERS = ("descriptors", "threads", "memory_bytes")


def leaks_of(evidence: Evidence) -> list[Leak]:
    """Return what grew with the disturbances beyond the thresholds, and keys left beyond the stated number."""
    grown = [leak for holder, samples in _holders(evidence) for leak in _leaks(evidence, holder, samples)]
    return grown + _keys_left(evidence)


def usage_of(evidence: Evidence) -> list[Usage]:
    """Return the first, highest and last samples of the server and of the workers, for the report only."""
    found = []
    for phase, members in (("server", SERVER_MEMBERS), ("worker", WORKER_MEMBERS)):
        samples = [one for one in evidence.resources if one.phase == phase]
        for member in members:
            values = [value for one in samples if (value := getattr(one, member)) is not None]
            if values:
                each = "" if phase == "server" else " of a worker"
                found.append(Usage(f"{member}{each}", values[0], max(values), values[-1]))
    return found


def _keys_left(evidence: Evidence) -> list[Leak]:
    """Return the keys without an expiry if more are left than the target states when all tasks are done or given up."""
    at_rest = option(evidence.begin, "keys_at_rest")
    quiet_t = evidence.phases.get("drained")
    counted = [
        (one.t, one.keys - one.keys_expiring)
        for one in evidence.resources
        if one.phase == "server" and one.keys is not None and one.keys_expiring is not None
    ]
    if not isinstance(at_rest, int) or quiet_t is None or not counted or counted[-1][0] < quiet_t:
        return []
    first, last = counted[0][1], counted[-1][1]
    struck = sum(one.effective_t is not None for one in evidence.faults.values())
    return [Leak("server", "keys without an expiry", first, last, struck)] if last > at_rest else []


def _holders(evidence: Evidence) -> Iterator[tuple[str, list[Resources]]]:
    by_sid: dict[int | None, list[Resources]] = {}
    for one in evidence.resources:
        by_sid.setdefault(one.sid, []).append(one)
    first_tasks = evidence.first_tasks()
    began: dict[int, int] = {}  # worker's session -> begin of its first task
    for sid, samples in by_sid.items():
        begun = [first_tasks[pid] for one in samples for pid in one.pids if pid in first_tasks]
        if sid is not None and begun:
            began[sid] = min(begun)
            yield f"worker {sid}", [one for one in samples if one.t >= began[sid]]
    workers = option(evidence.begin, "workers")
    if not isinstance(workers, int):
        yield "server", by_sid.get(None, [])
    elif len(began) >= workers:
        all_there_t = sorted(began.values())[workers - 1]
        yield "server", [one for one in by_sid.get(None, []) if one.t >= all_there_t]


def _leaks(evidence: Evidence, holder: str, samples: list[Resources]) -> Iterator[Leak]:
    struck = sorted(one.effective_t for one in evidence.faults.values() if one.effective_t and not one.traits.baseline)
    for member, total_min in TOTAL_MIN.items():
        stretches = _stretches(samples, member, struck)
        numbers = sorted(stretches)
        disturbances = numbers[-1] - numbers[0] if numbers else 0
        if disturbances < DISTURBANCES_MIN:
            continue
        first, half, last = numbers[0], numbers[len(numbers) // 2], numbers[-1]
        before, later, after = max(stretches[first]), max(stretches[half]), min(stretches[last])
        each = PER_DISTURBANCE[member]
        grown = after - before >= max(total_min, each * disturbances)
        still = last > half and after - later >= each * (last - half)
        if grown and still and _rises([min(stretches[number]) for number in numbers], each) >= RISES_MIN:
            yield Leak(holder, member, before, after, disturbances)


def _rises(levels: list[int], each: float) -> int:
    """Count the levels that exceed all earlier ones by at least `each`."""
    return sum(level - max(levels[:number]) >= each for number, level in enumerate(levels) if number)


def _stretches(samples: list[Resources], member: str, struck: list[int]) -> dict[int, list[int]]:
    """Return number of earlier disturbances -> the samples taken then."""
    found: dict[int, list[int]] = {}
    for one in samples:
        value = getattr(one, member)
        if value is not None:
            found.setdefault(bisect_right(struck, one.t), []).append(value)
    return found
