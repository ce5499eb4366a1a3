"""The dead-letter list: look at it, give a task another chance, or throw it away on purpose."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import redis

from .config import Config
from .connection import Script
from .errors import QueueError, Undecodable
from .keys import Keys
from .task import Task, decode, revise

PAGE = 1_000
UNDECODABLE = "undecodable-"

# KEYS  dead_letter, pending
# ARGV  element, the element with a new budget of attempts
# Returns 1, or 0 when it was gone
_REQUEUE = Script("""#!lua flags=allow-oom
if not redis.call('LPOS', KEYS[1], ARGV[1], 'RANK', -1) then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('LREM', KEYS[1], -1, ARGV[1])
return 1
""")


# KEYS  dead_letter
# ARGV  first, last (both counted from the right, the old end), then texts
# Returns the elements in which one of the texts occurs, newest first
# Of a million dead tasks a few are wanted: the others need not travel.
_CONTAINING = Script("""#!lua flags=no-writes,allow-oom
local found = {}
for _, element in ipairs(redis.call('LRANGE', KEYS[1], ARGV[1], ARGV[2])) do
  for i = 3, #ARGV do
    if string.find(element, ARGV[i], 1, true) then
      found[#found + 1] = element
      break
    end
  end
end
return found
""")


class NotRequeueable(QueueError):
    """What cannot be decoded would only come back."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One element of the list. `task` is None where it cannot be decoded; `id` then names it by its digest."""

    id: str
    task: Task | None
    error: str
    element: bytes

    @property
    def traceback(self) -> str:
        """Where its handler failed the last time; empty where none did."""
        found = self._member("traceback")
        return found if isinstance(found, str) else ""

    @property
    def dead_at(self) -> int | None:
        """When it was given up, in ms by Redis's clock; None where it cannot be decoded."""
        found = self._member("dead_at")
        return found if type(found) is int else None

    def _member(self, name: str) -> Any:
        return None if self.task is None else json.loads(self.element).get(name)


class DeadLetters:
    """The tasks that were given up, newest first."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        self._client, self._keys = client, Keys(config.namespace)

    def count(self) -> int:
        length: Any = self._client.llen(self._keys.dead_letter)
        return int(length)

    def page(self, start: int = 0, limit: int = PAGE) -> list[DeadLetter]:
        """One page, newest first."""
        if limit < 1:
            return []  # to LRANGE the place before the first is the last one
        elements: Any = self._client.lrange(self._keys.dead_letter, start, start + limit - 1)
        return [_read(element) for element in elements]

    def requeue(self, task_id: str) -> int:
        """Give every dead task of this id a new budget of attempts, at the end of the queue. How many there were.

        Its `attempt` goes on growing, as a fencing token has to.

        Raises:
            NotRequeueable: the element cannot be decoded.
        """
        return sum(self._requeue(letter) for letter in self._find(task_id))

    def requeue_all(self) -> int:
        """Requeue everything that can be decoded, oldest first. How many."""
        letters = [letter for letter in self._all() if letter.task is not None]
        return sum(self._requeue(letter) for letter in letters)

    def _requeue(self, letter: DeadLetter) -> int:
        if letter.task is None:
            raise NotRequeueable(f"{letter.id} cannot be decoded, so no worker could run it; purge it instead.")
        changed = revise(
            letter.element,
            error=None,
            traceback=None,
            dead_at=None,
            retries_forgiven=letter.task.retry_count,
            recoveries_forgiven=letter.task.recovered_count,
        )
        moved: int = _REQUEUE(self._client, [self._keys.dead_letter, self._keys.pending], [letter.element, changed])
        return moved

    def purge(self, task_id: str) -> int:
        """Delete every dead task of this id. How many there were."""
        return sum(self._remove(letter) for letter in self._find(task_id))

    def purge_all(self) -> int:
        """Delete what is in the list now; what arrives meanwhile stays. How many."""
        return sum(self._remove(letter) for letter in list(self._all()))

    def _remove(self, letter: DeadLetter) -> int:
        client: Any = self._client  # redis-py's own signature knows only text
        return int(client.lrem(self._keys.dead_letter, -1, letter.element))

    def _find(self, task_id: str) -> list[DeadLetter]:
        """Oldest first."""
        return [letter for letter in self._likely(task_id) if letter.id == task_id]

    def _likely(self, task_id: str) -> Iterator[DeadLetter]:
        if task_id.startswith(UNDECODABLE):
            return self._all()
        # As JSON has it written, or with escapes in which it may hide.
        texts = [json.dumps(task_id, ensure_ascii=False).encode(errors="replace"), b"\\u", b"\\/"]
        return self._walk(
            lambda first, last: _CONTAINING(self._client, [self._keys.dead_letter], [first, last, *texts])
        )

    def _all(self) -> Iterator[DeadLetter]:
        """Oldest first."""
        return self._walk(lambda first, last: self._client.lrange(self._keys.dead_letter, first, last))

    def _walk(self, page: Callable[[int, int], Any]) -> Iterator[DeadLetter]:
        # Counted from the right, the old end, where nothing is pushed: the pages do not shift under the walk.
        for start in range(1, self.count() + 1, PAGE):
            yield from (_read(element) for element in reversed(page(-(start + PAGE - 1), -start)))


def _read(element: bytes) -> DeadLetter:
    try:
        task = decode(element)
    except Undecodable as error:
        digest = hashlib.sha256(element).hexdigest()[:16]
        return DeadLetter(f"{UNDECODABLE}{digest}", None, f"It cannot be decoded: {error}.", element)
    return DeadLetter(task.id, task, task.error or "", element)
