"""The plan of an enumeration: the crash points that recur in all recordings, each in every phase."""

import fnmatch
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ..system.proxy import ANY_ROLE, Phase, Point

PER_NAME_MAX = 15
"""Maximum number of occurrences of a command: a worker that polls sends the same command forever."""
SPARE = 1
"""Number of last occurrences that are left out if recordings differ: the next run may not reach them."""

Counts = Mapping[tuple[str, str], int]
"""(role, name) -> number of occurrences; the role `*` stands for any."""


class Crash(msgspec.Struct, frozen=True, order=True):
    """The kill of one worker: its point and phase."""

    role: str
    name: str
    occurrence: int
    phase: Phase

    @property
    def point(self) -> Point:
        return Point(self.role, self.name, self.occurrence)

    def __str__(self) -> str:
        return f"{self.point} {self.phase}"


def plan_crashes(recordings: Sequence[Counts], per_name: int = PER_NAME_MAX) -> list[Crash]:
    """Return the points that every recording reached, in every phase.

    Roles are named, unless a command occurred under two roles: then the worker's threads share their connections.
    """
    shared = any(_shares(counts) for counts in recordings) or not any(role != ANY_ROLE for role, _ in recordings[0])
    keys = [
        key for key in recordings[0] if (key[0] == ANY_ROLE) == shared and all(key in other for other in recordings)
    ]
    points = [Point(*key, number) for key in keys for number in range(1, _robust(key, recordings, per_name) + 1)]
    return [Crash(*point, phase) for point in points for phase in Phase]


def matches(crash: Crash, pattern: str | None) -> bool:
    """Return whether the text of a crash contains `pattern`, with `*` and `?`. None matches every crash."""
    text = str(crash)
    # A leading `*` may be the role of a point and no wildcard: `*/GET#1` matches the point of that name.
    return pattern is None or pattern in text or fnmatch.fnmatchcase(text, f"*{pattern}*")


def _shares(counts: Counts) -> bool:
    names = [name for role, name in counts if role != ANY_ROLE]
    return len(names) > len(set(names))


def _robust(key: tuple[str, str], recordings: Sequence[Counts], per_name: int) -> int:
    """Return the number of occurrences that a new run can be relied on to reach."""
    counts = [recording[key] for recording in recordings]
    fewest = min(counts)
    return min(fewest if max(counts) == fewest else max(1, fewest - SPARE), per_name)


def count_points(seen: Iterable[Point]) -> Counts:
    """Return the counts of a recording, in the order of the first occurrences."""
    counts: Counter[tuple[str, str]] = Counter()
    for point in seen:
        counts[point.role, point.name] += 1
        counts[ANY_ROLE, point.name] += 1
    return counts
