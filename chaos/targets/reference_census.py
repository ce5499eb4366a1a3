"""The census of the reference: the tasks of one queue, with their places."""

from collections.abc import Iterator
from typing import Any

import redis
from zeroloss.reference.queue.errors import Undecodable
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.queue.task import Task as QueueTask

from ..history.ids import ids_in
from ..target import Found


def census_of(client: redis.Redis, keys: Keys, letters_from: str = "-") -> Iterator[Found]:
    """Yield each task in one queue, with its place. `letters_from`: the first id of a dead letter, for XRANGE."""
    for waiting in keys.lists:
        yield from _found("pending", client.lrange(waiting, 0, -1))
    yield from _found("delayed", client.zrange(keys.delayed, 0, -1))
    letters: Any = client.xrange(keys.dead_letter, letters_from)
    for _, letter in letters:
        yield from _found("dead_letter", [letter[b"entry"]], letter[b"error"].decode())
    for key in client.scan_iter(match=f"{keys.processing('')}*", count=1000):
        yield from _found("processing", client.hvals(key))


def _found(place: str, entries: Any, reason: str | None = None) -> Iterator[Found]:
    for entry in entries:
        text = entry.partition(b";")[2] if entry[:2] in (b"h,", b"d,", b"l,") else entry
        try:
            task = QueueTask(b"d,1,0,0,0,0,;" + text)
        except Undecodable:
            for task_id in ids_in(entry):
                yield Found(task_id.decode(), place, reason or "It cannot be read.")
            continue
        yield Found(task.payload["id"], place, reason, bytes(task.raw_payload))
