"""The time that a case's tasks waited for another worker."""

from collections.abc import Iterable, Mapping

from ..history import Effect, Event

Struck = Mapping[int, tuple[frozenset[int], int]]
"""Number of a crash -> the killed processes, and the time of the kill (monotonic, ns)."""


def redelivery_ms(events: Iterable[Event], struck: Struck) -> float | None:
    """Return the time from the last kill until another worker had begun the last redelivered task, ms.

    Redelivered: begun by a killed process, and begun again by another after the kill. None: no task was.
    """
    if not struck:
        return None
    pids, killed_t = max(struck.values(), key=lambda one: one[1])
    begins = [event for event in events if isinstance(event, Effect) and event.phase == "begin"]
    begun = {event.task for event in begins if event.pid in pids and event.t <= killed_t}
    again: dict[str, int] = {}
    for event in begins:
        if event.task in begun and event.t > killed_t and event.pid not in pids:
            again.setdefault(event.task, event.t)
    return max(((t - killed_t) / 1e6 for t in again.values()), default=None)
