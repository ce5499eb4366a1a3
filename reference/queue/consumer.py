"""One consumer's verbs: what a claimer does with its own processing list. Each is one atomic step in Redis (I1).

Why a list for each consumer: after a lost reply it reads its own list, and whatever lies there and is not in its hands
is its own next work. In a list shared by several nobody could tell a claim in transit from an orphan.

Ownership (I3) is the presence of the exact bytes in the consumer's own list, nothing else. A recovery changes the
bytes (`recovered_count`), so a late ack of the old delivery removes nothing. The lease only says when others may take
the list over. The one race that needs more:

    time ->
    worker   BLMOVE ......... [paused] ............................... wakes, holds t1
    reaper                     lease ended: list empty, nothing to recover
    producer                                      pushes t1
    Redis                                         hands t1 to the paused BLMOVE

t1 now lies in a list whose owner was given up. So the entry in `consumers` stays as a tombstone, every sweep looks at
the lists of tombstones, and a worker renews its lease before it trusts a wait that may have outlived it.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import redis

from .config import Config
from .connection import NOW, Script
from .errors import LeaseLost
from .keys import Keys
from .task import Task, revise
from .texts import MAX_ERROR_CHARS, TRACEBACK_CHARS_MAX

# What a script adds to what it buries: when, by Redis's clock, as the script asks for it anyway. An element that is not
# a task is buried as it is, so its bytes are the same before and after.
STAMP = f"""{NOW}
local function stamped(element, buried)
  if element == buried then return element end
  return string.sub(buried, 1, -2) .. ',"dead_at":' .. string.format('%d', now) .. '}}'
end
"""

# What one command carries of the tasks' bytes: about a MiB, and at least one task. Beyond it a slow link would take
# longer for a reply than anybody waits, and the same tasks would be fetched again and again.
MAX_TRANSFER_BYTES = 1_048_576

# KEYS  consumers, processing, paused
# ARGV  consumer, lease_ms
# Returns {whether the lease had ended or never begun, how many tasks the list holds, whether claiming is paused}
_RENEW = Script(f"""#!lua flags=allow-oom
{NOW}
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
return {{(lease and tonumber(lease) > now) and 0 or 1, redis.call('LLEN', KEYS[2]), redis.call('EXISTS', KEYS[3])}}
""")

# KEYS  processing, pending, consumers, counters
# ARGV  consumer, limit, the lengths of the elements that are done, these elements in one string, how many bytes to
#       claim at the most (one task may have more)
# Returns {whether the lease lives, indices (from 0) of the elements it did not hold, whether it left something pending
#         for its size, the lengths of what it claimed, oldest first, and this in one string}
# One round trip for a whole batch of acks and the next claims, and one string for a whole batch of elements (redis-py
# takes 3 us for each argument and each part of a reply): that is where the speed lies. It claims nothing without a
# living lease, by Redis's clock. It reads 32 tasks at a time: of unknown sizes, 256 could fill Lua's heap.
_SETTLE = Script(f"""#!lua flags=allow-oom
local lost, completed, first = {{}}, 0, 1
for length in string.gmatch(ARGV[3], '%d+') do
  local element = string.sub(ARGV[4], first, first + length - 1)
  first = first + length
  if redis.call('LREM', KEYS[1], -1, element) == 0 then lost[#lost + 1] = completed + #lost
  else completed = completed + 1 end
end
if completed > 0 then redis.call('HINCRBY', KEYS[4], 'completed', completed) end
{NOW}
local lease = redis.call('ZSCORE', KEYS[3], ARGV[1])
local lives = lease and tonumber(lease) > now
local limit = lives and tonumber(ARGV[2]) or 0
local claimed, lengths, bytes, full, waiting = {{}}, {{}}, 0, false
while #claimed < limit and not full do
  waiting = redis.call('LRANGE', KEYS[2], -math.min(#claimed + 32, limit), -#claimed - 1)
  if #waiting == 0 then break end
  for i = #waiting, 1, -1 do
    full = #claimed > 0 and bytes + #waiting[i] > tonumber(ARGV[5])
    if full then break end
    claimed[#claimed + 1] = waiting[i]
    lengths[#lengths + 1] = #waiting[i]
    bytes = bytes + #waiting[i]
  end
end
for first = 1, #claimed, 1000 do
  redis.call('LPUSH', KEYS[1], unpack(claimed, first, math.min(first + 999, #claimed)))
end
if #claimed > 0 then redis.call('LTRIM', KEYS[2], 0, -#claimed - 1) end
return {{lives and 1 or 0, lost, full and 1 or 0, table.concat(lengths, ' '), table.concat(claimed)}}
""")

# KEYS  processing, delayed, pending, counters
# ARGV  element, the element with its new count, delay_ms
# Returns 1, or 0 when it was not held
# A member of a sorted set is there once only: an element that is already waiting goes to the end of the queue instead.
_RETRY = Script(f"""#!lua flags=allow-oom
if not redis.call('LPOS', KEYS[1], ARGV[1], 'RANK', -1) then return 0 end
{NOW}
if redis.call('ZADD', KEYS[2], 'NX', now + ARGV[3], ARGV[2]) == 0 then redis.call('LPUSH', KEYS[3], ARGV[2]) end
redis.call('LREM', KEYS[1], -1, ARGV[1])
redis.call('HINCRBY', KEYS[4], 'failed', 1)
redis.call('HINCRBY', KEYS[4], 'retried', 1)
return 1
""")

# KEYS  processing, dead_letter, counters
# ARGV  element, the element with the reason, how many failures of a handler to count (0 or 1)
# Returns 1, or 0 when it was not held
_DEAD_LETTER = Script(f"""#!lua flags=allow-oom
if not redis.call('LPOS', KEYS[1], ARGV[1], 'RANK', -1) then return 0 end
{STAMP}
redis.call('LPUSH', KEYS[2], stamped(ARGV[1], ARGV[2]))
redis.call('LREM', KEYS[1], -1, ARGV[1])
redis.call('HINCRBY', KEYS[3], 'failed', ARGV[3])
redis.call('HINCRBY', KEYS[3], 'dead_lettered', 1)
return 1
""")

# KEYS  processing, pending
# ARGV  the elements to give back, newest first, so that the oldest is claimed first again
# Returns how many of them were held and are given back
_RELEASE = Script("""#!lua flags=allow-oom
local released = 0
for _, element in ipairs(ARGV) do
  if redis.call('LPOS', KEYS[1], element) then
    redis.call('RPUSH', KEYS[2], element)
    redis.call('LREM', KEYS[1], 1, element)
    released = released + 1
  end
end
return released
""")

# KEYS  consumers, processing, presence
# ARGV  consumer
# Returns 1 when it left, 0 when it still holds tasks: then its lease ends now and they are recovered
_LEAVE = Script(f"""#!lua flags=allow-oom
if redis.call('LLEN', KEYS[2]) == 0 then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[3], ARGV[1])
  return 1
end
{NOW}
redis.call('ZADD', KEYS[1], now, ARGV[1])
return 0
""")


@dataclass(frozen=True, slots=True)
class Renewal:
    """`lapsed`: the lease had ended, or this is the first. `holding`: tasks in the list now. `paused`: claim none."""

    lapsed: bool
    holding: int
    paused: bool = False


@dataclass(frozen=True, slots=True)
class Settlement:
    """`lost`: elements that were not held any more (I3). `claimed`: new elements, oldest first.

    `more`: the next task is pending and was not claimed, since one reply would have been too large.
    """

    lease_lives: bool
    lost: list[bytes]
    claimed: list[bytes]
    more: bool = False


class Consumer:
    """One claimer's side of the queue. Its name is used by one claimer only, and never again after that."""

    def __init__(self, client: redis.Redis, config: Config, name: str) -> None:
        self.name = name
        self._client, self._config, self._keys = client, config, Keys(config.namespace)
        self._processing = self._keys.processing(name)

    def renew(self) -> Renewal:
        """Begin or extend the lease by `lease_ms` from now, by Redis's clock."""
        keys = [self._keys.consumers, self._processing, self._keys.paused]
        lapsed, holding, paused = _RENEW(self._client, keys, [self.name, self._config.lease_ms])
        return Renewal(bool(lapsed), holding, bool(paused))

    def settle(self, done: Sequence[bytes], limit: int) -> Settlement:
        """Ack what is done and claim up to `limit` more, of about `MAX_TRANSFER_BYTES`, in one round trip."""
        keys = [self._processing, self._keys.pending, self._keys.consumers, self._keys.counters]
        lengths = " ".join([str(len(element)) for element in done])
        arguments = [self.name, limit, lengths, b"".join(done), MAX_TRANSFER_BYTES]
        lives, lost, more, *claimed = _SETTLE(self._client, keys, arguments)
        return Settlement(bool(lives), [done[index] for index in lost], _split(*claimed), bool(more))

    def claim(self, limit: int = 1) -> list[bytes]:
        """Claim up to `limit` tasks, oldest first; none without a living lease."""
        return self.settle([], limit).claimed

    def claim_waiting(self, timeout_ms: int) -> bytes | None:
        """Claim one task, waiting for it up to `timeout_ms`. https://redis.io/docs/latest/commands/blmove/

        It cannot check the lease: call it only when the lease outlives the wait.
        """
        client: Any = self._client  # redis-py's own signature knows only whole seconds
        element: bytes | None = client.blmove(self._keys.pending, self._processing, timeout_ms / 1000, "RIGHT", "LEFT")
        return element

    def ack(self, task: Task) -> None:
        """The task is done.

        Raises:
            LeaseLost: it was recovered meanwhile; nothing was changed (I3).
        """
        if self.settle([task.element], 0).lost:
            raise LeaseLost(self.name, task.id)

    def fail(
        self, task: Task, error: str, traceback: str = "", config: Config | None = None, after_ms: int | None = None
    ) -> bool:
        """Its handler raised: to delayed, with backoff, or to dead_letter after `max_retries` (I5). True: a retry.

        Of a long traceback the end is kept. `config`: what holds for this type of task; else the consumer's own.
        `after_ms`: the delay, in place of the backoff.

        Raises:
            LeaseLost: it was recovered meanwhile; nothing was changed (I3).
        """
        config = config or self._config
        failures = task.retry_count + 1
        if failures - task.retries_forgiven > config.max_retries:
            changed = last_words(task.element, error, traceback, retry_count=failures)
            self._bury(task.element, changed, task.id, failures=1)
            return False
        keys = [self._processing, self._keys.delayed, self._keys.pending, self._keys.counters]
        changed = revise(task.element, retry_count=failures)
        delay_ms = backoff_ms(config, failures - task.retries_forgiven) if after_ms is None else after_ms
        if not _RETRY(self._client, keys, [task.element, changed, delay_ms]):
            raise LeaseLost(self.name, task.id)
        return True

    def dead_letter(self, task: Task, error: str) -> None:
        """Give the task up, without a handler's failure (nobody knows its type).

        Raises:
            LeaseLost: it was recovered meanwhile; nothing was changed (I3).
        """
        self._bury(task.element, last_words(task.element, error), task.id, failures=0)

    def dead_letter_undecodable(self, element: bytes) -> None:
        """Give up what is not a task. It is kept as it is: nobody can add a reason to what nobody can read.

        Raises:
            LeaseLost: it was recovered meanwhile; nothing was changed (I3).
        """
        self._bury(element, element, "(undecodable)", failures=0)

    def _bury(self, element: bytes, changed: bytes, task_id: str, *, failures: int) -> None:
        keys = [self._processing, self._keys.dead_letter, self._keys.counters]
        if not _DEAD_LETTER(self._client, keys, [element, changed, failures]):
            raise LeaseLost(self.name, task_id)

    def release(self, elements: Sequence[bytes]) -> int:
        """Give back what was not begun, given oldest first, to the claiming end, in its order. How many were held."""
        keys = [self._processing, self._keys.pending]
        return sum(_RELEASE(self._client, keys, batch) for batch in transfers(elements[::-1]))

    def held(self) -> list[bytes]:
        """What the list holds, oldest first."""
        elements: Any = self._client.lrange(self._processing, 0, -1)
        return list(reversed(elements))

    def leave(self) -> bool:
        """Leave the registry; False when tasks are left, which then are free to be recovered at once."""
        return bool(_LEAVE(self._client, [self._keys.consumers, self._processing, self._keys.presence], [self.name]))


def transfers(elements: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Split elements, in their order, into what one command carries: about `MAX_TRANSFER_BYTES`, at least one."""
    if sum(map(len, elements)) <= MAX_TRANSFER_BYTES:  # nearly always; the loop would take longer than the acks
        if elements:
            yield list(elements)
        return
    batch: list[bytes] = []
    size_bytes = 0
    for element in elements:
        size_bytes += len(element)
        if batch and size_bytes > MAX_TRANSFER_BYTES:
            yield batch
            batch, size_bytes = [], len(element)
        batch.append(element)
    if batch:
        yield batch


def last_words(element: bytes, error: str, traceback: str = "", **changes: Any) -> bytes:
    """The element with the reason for which it is given up; the time is added by the script that buries it."""
    where = traceback[-TRACEBACK_CHARS_MAX:] or None
    return revise(element, **changes, error=error[:MAX_ERROR_CHARS], traceback=where, dead_at=None)


def _split(lengths: bytes, elements: bytes) -> list[bytes]:
    ends = list(accumulate(map(int, lengths.split()), initial=0))
    return [elements[start:end] for start, end in pairwise(ends)]


def backoff_ms(config: Config, failures: int) -> int:
    """Exponential, with jitter on the upper half so that tasks that failed together do not return together."""
    ceiling = min(config.backoff_max_ms, config.backoff_ms * 2 ** min(failures - 1, 32))
    return random.randint(ceiling // 2, ceiling)
