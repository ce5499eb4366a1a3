"""A census without the target's help: every key of the database is read and searched for task ids.

Values are searched as they are, base64-decoded and zlib-decompressed. The scan cannot distinguish a waiting task from
a dead one, decode another encoding, or follow a queue's own ids. Acknowledged entries that are still in a stream are
left out.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from ..history.ids import ids_in
from ..target import Found

PAGE = 500
RECORDS = ("string", "hash")
TIMEOUT_S = 30.0


def scan(url: str, wanted: Collection[str]) -> list[Found]:
    """Return the tasks of `wanted`, ids as `plan.task_id` makes them, that are in the database; the reason is the key.

    The place is `record` if only a string or hash of the task alone names it, such as a job's own key.
    """
    client: Any = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=TIMEOUT_S)
    names = {task.encode(): task for task in wanted}
    found: dict[str, Found] = {}
    try:
        for key in client.scan_iter(count=PAGE):
            kind = client.type(key).decode()
            read = _READERS.get(kind)
            ids = set(ids_in(key))
            for value in read(client, key) if read else ():
                ids |= ids_in(value)
            # A string or hash with a single task id is a record of that task: a queue finds its tasks by other keys.
            place = "record" if kind in RECORDS and len(ids) == 1 else "unknown"
            for task in ids & names.keys():
                where = f"in the {kind} {key.decode(errors='replace')}"
                known = found.get(names[task])
                if known is None or (known.place, place) == ("record", "unknown"):
                    found[names[task]] = Found(names[task], place, where)
    finally:
        client.close()
    return list(found.values())


def holds_strings_only(url: str) -> bool:
    """Return whether the database holds only strings. No queue keeps waiting tasks in strings, however encoded."""
    client: Any = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), socket_timeout=TIMEOUT_S)
    try:
        return all(client.type(key) == b"string" for key in client.scan_iter(count=PAGE))
    finally:
        client.close()


def _string(client: Any, key: bytes) -> Iterable[bytes]:
    value = client.get(key)
    return () if value is None else (value,)


def _list(client: Any, key: bytes) -> Iterator[bytes]:
    start = 0
    while page := client.lrange(key, start, start + PAGE - 1):
        yield from page
        start += PAGE


def _hash(client: Any, key: bytes) -> Iterator[bytes]:
    for field, value in client.hscan_iter(key, count=PAGE):
        yield field
        yield value


def _set(client: Any, key: bytes) -> Iterable[bytes]:
    members: Iterable[bytes] = client.sscan_iter(key, count=PAGE)
    return members


def _sorted_set(client: Any, key: bytes) -> Iterator[bytes]:
    for member, _ in client.zscan_iter(key, count=PAGE):
        yield member


def _stream(client: Any, key: bytes) -> Iterator[bytes]:
    """Yield the fields of new and pending entries: of all without a group, else of those unfinished in any group."""
    groups = client.xinfo_groups(key)
    delivered = [_position(group["last-delivered-id"]) for group in groups]
    pending = {
        entry["message_id"]
        for group in groups
        for entry in client.xpending_range(key, group["name"], "-", "+", group["pending"] or 1)
    }
    start = "-"
    while page := client.xrange(key, start, "+", PAGE):
        for entry, fields in page:
            if not groups or entry in pending or any(_position(entry) > last for last in delivered):
                yield from fields.keys()
                yield from fields.values()
        start = b"(" + page[-1][0]


def _position(entry: bytes) -> tuple[int, int]:
    milliseconds, _, number = entry.partition(b"-")
    return int(milliseconds), int(number)


_READERS: dict[str, Callable[[Any, bytes], Iterable[bytes]]] = {
    "string": _string,
    "list": _list,
    "hash": _hash,
    "set": _set,
    "zset": _sorted_set,
    "stream": _stream,
}
