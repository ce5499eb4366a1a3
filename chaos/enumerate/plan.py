"""What is enumerated: which crash points, and in which phases, as far as recordings show that they come again."""

import fnmatch
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ..system.proxy import ANY_ROLE, Phase, Point

PER_NAME_MAX = 15
"""Of each command only that many occurrences: a worker that polls sends the same one forever."""
SPARE = 1
"""The last that were seen of a command are left out: the next run may not come so far."""

Counts = Mapping[tuple[str, str], int]
"""(role, name) -> how many; the role `*` stands for any."""


class Crash(msgspec.Struct, frozen=True, order=True):
    """One worker is killed: where, and when."""

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
    """The points that every recording has reached, in every phase.

    Roles are named unless some command came under two of them: then the worker's threads share their connections.
    """
    shared = any(_shares(counts) for counts in recordings) or not any(role != ANY_ROLE for role, _ in recordings[0])
    keys = [
        key for key in recordings[0] if (key[0] == ANY_ROLE) == shared and all(key in other for other in recordings)
    ]
    points = [Point(*key, number) for key in keys for number in range(1, _robust(key, recordings, per_name) + 1)]
    return [Crash(*point, phase) for point in points for phase in Phase]


def matches(crash: Crash, pattern: str | None) -> bool:
    """Whether `pattern`, with `*` and `?`, is found in the text of a crash. None: every crash is meant."""
    text = str(crash)
    # What a point may begin with is not a wildcard there: `*/GET#1` means the point of that name.
    return pattern is None or pattern in text or fnmatch.fnmatchcase(text, f"*{pattern}*")


def _shares(counts: Counts) -> bool:
    names = [name for role, name in counts if role != ANY_ROLE]
    return len(names) > len(set(names))


def _robust(key: tuple[str, str], recordings: Sequence[Counts], per_name: int) -> int:
    """That many occurrences can be counted on."""
    counts = [recording[key] for recording in recordings]
    fewest = min(counts)
    return min(fewest if max(counts) == fewest else max(1, fewest - SPARE), per_name)


def count_points(seen: Iterable[Point]) -> Counts:
    """The counts of a recording, in the order of the first occurrences."""
    counts: Counter[tuple[str, str]] = Counter()
    for point in seen:
        counts[point.role, point.name] += 1
        counts[ANY_ROLE, point.name] += 1
    return counts
