"""The dead-letter stream: read letters, requeue their tasks, or delete them.

A letter's id is its id in the stream, which is also the time, by Redis's clock, at which the task was given up.
https://redis.io/docs/latest/develop/data-types/streams/
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import redis

from .config import Config
from .connection import Script
from .consuming.settling import MAX_TRANSFER_BYTES
from .errors import QueueError, Undecodable
from .keys import Keys
from .lua import HEADER, LISTS
from .reaper import MOVE_BYTES
from .task import Task

PAGE = 1_000  # letters; a page of large ones ends earlier
LETTER_ID = re.compile(r"\d{1,20}-\d{1,20}", re.ASCII)

# KEYS  the bell and the three lists, dead_letter
# ARGV  ids of letters
# Returns the number of requeued letters, the ids of letters whose entry cannot be read, and how many of the ids were
#         looked at: the rest is for the next call, as other commands wait for this one
# Retries and recoveries begin at 0 again. The attempt, a fencing token, stays: dead-lettering has raised it.
_REQUEUE = Script(f"""#!lua flags=allow-oom
{HEADER}{LISTS}
local requeued, unreadable, looked, bytes = 0, {{}}, 0, 0
for place, id in ipairs(ARGV) do
  local letter = redis.call('XRANGE', KEYS[5], id, id)[1]
  local head = letter and heading(letter[2][2])
  if head then
    head.retries, head.recoveries = 0, 0
    redis.call('LPUSH', pending(head), headed(head, letter[2][2]))
    redis.call('XDEL', KEYS[5], id)
    requeued = requeued + 1
  elseif letter then
    unreadable[#unreadable + 1] = id
  end
  looked, bytes = place, bytes + (letter and #letter[2][2] or 0)
  if bytes >= {MOVE_BYTES} then break end
end
ring()
return {{requeued, unreadable, looked}}
""")

# KEYS  dead_letter
# ARGV  the first id, the last id, limit in letters, limit in bytes; a single letter may exceed it
# Returns letters, oldest first
_READ = Script("""#!lua flags=no-writes
local page, bytes, first = {}, 0, ARGV[1]
while true do
  local letters = redis.call('XRANGE', KEYS[1], first, ARGV[2], 'COUNT', 8)
  for _, letter in ipairs(letters) do
    for _, part in ipairs(letter[2]) do bytes = bytes + #part end
    if #page == tonumber(ARGV[3]) or #page > 0 and bytes > tonumber(ARGV[4]) then return page end
    page[#page + 1] = letter
  end
  if #letters < 8 then return page end
  first = '(' .. letters[8][1]
end
""")


class NotRequeueable(QueueError):
    """The entry cannot be read: requeued, it would only be dead-lettered again."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A task that was given up. `task` is None if its entry cannot be read."""

    id: str
    task: Task | None
    reason: str  # failed: its handler raised; vanished: its workers died; not_runnable: no handler, or unreadable
    error: str
    traceback: str  # of the last failure of its handler; empty if there was no failure
    consumer: str  # the last that held it
    entry: bytes

    @property
    def dead_at(self) -> int:
        """Time at which the task was given up, in ms by Redis's clock."""
        return int(self.id.rpartition("/")[2].partition("-")[0])  # a slash follows the number of a shard


class DeadLetters:
    """The dead-lettered tasks. The methods raise QueueError for an invalid id of a letter."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        self._client, self._keys = client, Keys(config.namespace)

    def count(self) -> int:
        length: Any = self._client.xlen(self._keys.dead_letter)
        return int(length)

    def page(self, limit: int = PAGE, before: str | None = None) -> list[DeadLetter]:
        """Return one page of letters, newest first. `before`: only letters older than this id, for the next page."""
        newest = "+" if before is None else f"({_checked(before)}"
        letters: Any = self._client.xrevrange(self._keys.dead_letter, newest, "-", count=max(1, limit))
        return [_read(*letter) for letter in letters]

    def get(self, letter_id: str) -> DeadLetter | None:
        """Return one letter; None if it was requeued or deleted."""
        letters: Any = self._client.xrange(self._keys.dead_letter, _checked(letter_id), letter_id, count=1)
        return _read(*letters[0]) if letters else None

    def find(self, *task_ids: str) -> list[DeadLetter]:
        """Return all letters of these tasks, oldest first. This reads the whole stream, in steps."""
        letters, wanted = (letter for page in self._pages() for letter in page), frozenset(task_ids)
        return [letter for letter in letters if letter.task is not None and letter.task.id in wanted]

    def requeue(self, *letter_ids: str) -> int:
        """Put tasks at the end of the queue, with all their retries. Return how many letters still existed.

        The `attempt` of a task keeps growing, as a fencing token must.

        Raises:
            NotRequeueable: an entry cannot be read; the others were requeued.
        """
        requeued, unreadable = self._requeue(letter_ids)
        if unreadable:
            raise NotRequeueable(f"{unreadable[0]} cannot be read, so no worker could run it; purge it instead.")
        return requeued

    def requeue_all(self) -> int:
        """Requeue all letters that can be read, oldest first. Return how many."""
        return sum(self._requeue([letter.id for letter in page])[0] for page in self._pages())

    def _requeue(self, letter_ids: Iterable[str]) -> tuple[int, list[str]]:
        keys, rest = [*self._keys.waiting, self._keys.dead_letter], [_checked(letter_id) for letter_id in letter_ids]
        total = 0
        unreadable: list[str] = []
        while rest:
            requeued, ids, looked = _REQUEUE(self._client, keys, rest)
            total, rest = total + requeued, rest[looked:]
            unreadable += [letter_id.decode() for letter_id in ids]
        return total, unreadable

    def purge(self, *letter_ids: str) -> int:
        """Delete letters. Return how many still existed."""
        if not letter_ids:
            return 0
        gone: Any = self._client.xdel(self._keys.dead_letter, *[_checked(letter_id) for letter_id in letter_ids])
        return int(gone)

    def purge_all(self) -> int:
        """Delete the letters that are in the stream now; letters that arrive meanwhile stay. Return how many."""
        return sum(self.purge(*[letter.id for letter in page]) for page in self._pages())

    def _pages(self) -> Iterator[list[DeadLetter]]:
        """Yield the letters that are in the stream now, oldest first, in pages."""
        newest: Any = self._client.xrevrange(self._keys.dead_letter, count=1)
        first = "-"
        while newest:
            bounds = [first, newest[0][0], PAGE, MAX_TRANSFER_BYTES]
            letters = _READ(self._client, [self._keys.dead_letter], bounds)
            if not letters:
                return
            yield [_read(letter_id, dict(zip(*[iter(parts)] * 2, strict=True))) for letter_id, parts in letters]
            first = f"({letters[-1][0].decode()}"


def _checked(letter_id: str) -> str:
    if not LETTER_ID.fullmatch(letter_id):
        raise QueueError(f"{letter_id!r} is not an id of a dead letter; one looks like 1795929154172-0.")
    return letter_id


def _read(letter_id: bytes, fields: dict[bytes, bytes]) -> DeadLetter:
    entry = fields.get(b"entry", b"")
    reason, error, traceback, consumer = (
        fields.get(name, b"").decode(errors="replace") for name in (b"reason", b"error", b"traceback", b"consumer")
    )
    try:
        task = Task(entry)
    except Undecodable as undecodable:
        task, error = None, error or f"{undecodable}"
    return DeadLetter(letter_id.decode(), task, reason, error, traceback, consumer, entry)
