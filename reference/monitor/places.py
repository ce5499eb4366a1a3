"""Reads the pending, delayed or held tasks, a page at a time, without changing them.

An entry may have a megabyte, so a page is read a few entries at a time, until it is long or large enough. Tasks move
while pages are read: a task may show twice, or not at all.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import redis

from ..queue.config import Config
from ..queue.errors import Undecodable
from ..queue.keys import Keys
from ..queue.task import PRIORITIES, Task
from ..queue.texts import NAME_CHARS_MAX, printable

PAGE = 50  # tasks
PAGE_BYTES = 1_048_576  # a page also ends when its tasks reach this size
SLICE = 8  # tasks that are read at a time
PREVIEW_CHARS = 200

Shown = dict[str, Any]


def summary_of(entry: bytes) -> Shown:
    """Return a task as a row of a list; for an unreadable entry, the reason and its first characters."""
    try:
        task = Task(entry)
    except Undecodable as error:
        return {"id": None, "unreadable": f"{error}", "preview": _preview(entry), "bytes": len(entry)}
    return {
        "id": printable(task.id, NAME_CHARS_MAX),
        "type": printable(task.type, NAME_CHARS_MAX),
        "priority": task.priority,
        "attempt": task.attempt,
        "retries": task.retries,
        "recoveries": task.recoveries,
        "enqueued_at": task.enqueued_at,
        "preview": _preview(bytes(task.raw_payload)),
        "bytes": len(entry),
    }


def _preview(text: bytes) -> str:
    return text[: 4 * PREVIEW_CHARS].decode(errors="replace")[:PREVIEW_CHARS]


class Places:
    """Pages of tasks by place: pending, delayed or held. `total`: the number of tasks in that place."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        self._client: Any = client
        self._keys = Keys(config.namespace)

    def pending(self, priority: str, start: int) -> Shown:
        """Return pending tasks, the next to be claimed first.

        Raises:
            redis.RedisError: Redis does not answer, or the key is of another type.
        """
        waiting = dict(zip(PRIORITIES, self._keys.lists, strict=True))[priority]

        def read(first: int, count: int) -> Sequence[bytes]:
            return list(reversed(self._client.lrange(waiting, -first - count, -first - 1)))

        return self._page(self._client.llen(waiting), start, read, lambda entry: (entry, {}))

    def delayed(self, start: int) -> Shown:
        """Return delayed tasks, the next to be due first. Raises as `pending` does."""

        def read(first: int, count: int) -> Sequence[tuple[bytes, float]]:
            found: list[tuple[bytes, float]] = self._client.zrange(
                self._keys.delayed, first, first + count - 1, withscores=True
            )
            return found

        def show(pair: tuple[bytes, float]) -> tuple[bytes, Shown]:
            return pair[0], {"due_at": int(pair[1]) if math.isfinite(pair[1]) else None}

        return self._page(self._client.zcard(self._keys.delayed), start, read, show)

    def processing(self, consumer: str, start: int) -> Shown:
        """Return the tasks that one consumer holds, in the order of their claims. Raises as `pending` does."""
        key = self._keys.processing(consumer)
        numbers = sorted((number for number in self._client.hkeys(key) if number.isdigit()), key=int)

        def read(first: int, count: int) -> Sequence[tuple[bytes, bytes]]:
            wanted = numbers[first : first + count]
            entries = self._client.hmget(key, wanted) if wanted else []
            return [(number, entry) for number, entry in zip(wanted, entries, strict=True) if entry is not None]

        def show(pair: tuple[bytes, bytes]) -> tuple[bytes, Shown]:
            return pair[1], {"number": int(pair[0])}

        return self._page(len(numbers), start, read, show)

    def _page(
        self,
        total: int,
        start: int,
        read: Callable[[int, int], Sequence[Any]],
        show: Callable[[Any], tuple[bytes, Shown]],
    ) -> Shown:
        tasks = []
        for entry, more in map(show, _slices(total, start, read)):
            tasks.append(summary_of(entry) | more)
            if len(tasks) >= PAGE or sum(task["bytes"] for task in tasks) >= PAGE_BYTES:
                break
        after = start + len(tasks)
        return {"total": total, "start": start, "tasks": tasks, "next": after if tasks and after < total else None}


def _slices(total: int, start: int, read: Callable[[int, int], Sequence[Any]]) -> Iterator[Any]:
    for first in range(start, total, SLICE):
        found = read(first, SLICE)
        if not found:
            return
        yield from found
