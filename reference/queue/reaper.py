"""Maintenance: give back what dead consumers held, move due retries, find lists that nobody names.

It runs in every worker process, needs no leader and no traffic (I4): each step checks again, inside its script, that
it may be taken, so two reapers at the same time do no harm.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import redis

from .config import Config
from .connection import NOW, Script
from .consumer import MAX_TRANSFER_BYTES, STAMP, last_words
from .errors import Undecodable
from .keys import Keys
from .presence import Refusal
from .task import decode, revise
from .texts import NAME_CHARS_MAX, printable

logger = logging.getLogger(__name__)

RECOVER_BATCH = 100
PROMOTE_BATCH = 500
SCAN_COUNT = 1_000  # keys looked at in one step of the slow sweep
PROMOTE_ROUNDS = 200  # a sweep is bounded: 100,000 due retries at the most

# KEYS  processing
# ARGV  how many at most, how many bytes at most (one element may have more)
# Returns the newest elements, newest first
_NEWEST = Script("""#!lua flags=no-writes
local newest, bytes = {}, 0
for i = 0, ARGV[1] - 1 do
  local element = redis.call('LINDEX', KEYS[1], i)
  if not element then break end
  bytes = bytes + #element
  if i > 0 and bytes > tonumber(ARGV[2]) then break end
  newest[#newest + 1] = element
end
return newest
""")

# KEYS  consumers, processing, pending, dead_letter, counters
# ARGV  consumer, then for each element, newest first: element, its new bytes, where to ('pending' or 'dead_letter')
# Returns how many were moved, or -1 when the lease lives (or has no entry: then it has to be adopted first)
# The new bytes come from outside: cjson would mangle numbers and empty arrays.
_RECOVER = Script(f"""#!lua flags=allow-oom
{STAMP}
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) > now then return -1 end
local recovered, dead = 0, 0
for i = 2, #ARGV, 3 do
  if redis.call('LPOS', KEYS[2], ARGV[i]) then
    if ARGV[i + 2] == 'pending' then
      redis.call('RPUSH', KEYS[3], ARGV[i + 1])
      recovered = recovered + 1
    else
      redis.call('LPUSH', KEYS[4], stamped(ARGV[i], ARGV[i + 1]))
      dead = dead + 1
    end
    redis.call('LREM', KEYS[2], 1, ARGV[i])
  end
end
if recovered > 0 then redis.call('HINCRBY', KEYS[5], 'recovered', recovered) end
if dead > 0 then redis.call('HINCRBY', KEYS[5], 'dead_lettered', dead) end
return recovered + dead
""")

# KEYS  delayed, pending
# ARGV  how many at most
# Returns how many were moved
# They go to the end of the queue: a stream of failing tasks must not push ahead of the others.
_PROMOTE = Script(f"""#!lua flags=allow-oom
{NOW}
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
if #due > 0 then
  redis.call('LPUSH', KEYS[2], unpack(due))
  redis.call('ZREM', KEYS[1], unpack(due))
end
return #due
""")

# KEYS  consumers
# ARGV  consumer
# Returns 1 when a living lease was ended
_EXPIRE = Script(f"""#!lua flags=allow-oom
{NOW}
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) <= now then return 0 end
redis.call('ZADD', KEYS[1], now, ARGV[1])
return 1
""")

# KEYS  consumers, presence
# ARGV  the beginning of every presence channel, then consumers that have been absent for long enough
# Returns the consumers that are absent: their lease lives, but nobody is subscribed to their channel, though they have
#         been on this very server. The lease of those that were named ends now.
_END_ABSENT = Script(f"""#!lua flags=allow-oom
{NOW}
local long = {{}}
for i = 2, #ARGV do long[ARGV[i]] = true end
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local absent = {{}}
for _, consumer in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
  if redis.call('HGET', KEYS[2], consumer) == run_id
      and redis.call('PUBSUB', 'NUMSUB', ARGV[1] .. consumer)[2] == 0 then
    absent[#absent + 1] = consumer
    if long[consumer] then redis.call('ZADD', KEYS[1], now, consumer) end
  end
end
return absent
""")

# KEYS  consumers
# ARGV  lease_ms, consumer
# Returns 1 when the consumer had no entry and has one now
# Its owner may live (a server that came back without its last writes): it gets a whole lease to say so.
_ADOPT = Script(f"""#!lua flags=allow-oom
{NOW}
return redis.call('ZADD', KEYS[1], 'NX', now + ARGV[1], ARGV[2])
""")

# KEYS  consumers, processing, presence
# ARGV  consumer, tombstone_ms
# Returns 1 when the entry was old, its list empty, and it is gone
_FORGET = Script(f"""#!lua flags=allow-oom
{NOW}
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) + ARGV[2] > now or redis.call('EXISTS', KEYS[2]) > 0 then return 0 end
redis.call('HDEL', KEYS[3], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
""")


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one sweep moved."""

    recovered: int
    promoted: int


class Reaper:
    """Recovers what the dead held."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        self._client, self._config, self._keys = client, config, Keys(config.namespace)
        self._refusal = Refusal("Redis refuses to say who has vanished; until it does leases alone count")
        self._absent_since: dict[bytes, float] = {}  # monotonic, s
        self._foreign: set[bytes] = set()  # names that were logged

    def sweep(self) -> Sweep:
        """Recover from every consumer whose lease ended or who has vanished, and promote what is due."""
        if self._config.absence_ms:
            self._end_leases_of_the_vanished()
        recovered = sum(self.recover(consumer) for consumer in self._dead_and_holding())
        return Sweep(recovered, self.promote())

    def _dead_and_holding(self) -> list[str]:
        names = list(self._ours(self._ended_before(0)))
        with self._client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.type(self._keys.processing(name))
            return [name for name, kind in zip(names, pipeline.execute(), strict=True) if kind == b"list"]

    def _ended_before(self, ago_ms: int) -> list[bytes]:
        seconds, microseconds = self._client.time()
        names: Any = self._client.zrangebyscore(
            self._keys.consumers, "-inf", seconds * 1000 + microseconds // 1000 - ago_ms
        )
        return list(names)

    def _end_leases_of_the_vanished(self) -> None:
        """A worker whose connections are gone, and stay gone, was killed: see `presence.py`."""
        now = time.monotonic()
        long_ago = now - self._config.absence_ms / 1000
        vanished = [name for name, since in self._absent_since.items() if since <= long_ago]
        keys = [self._keys.consumers, self._keys.presence]
        try:
            absent = _END_ABSENT(self._client, keys, [self._keys.presence_channel(""), *vanished])
        except redis.ResponseError as error:
            self._refusal.say(error)
            return
        self._absent_since = {name: self._absent_since.get(name, now) for name in absent}

    def recover(self, consumer: str) -> int:
        """Move all that a dead consumer holds back to the claiming end of pending, or to dead_letter (I4, I5).

        How many were moved; 0 when its lease lives.
        """
        keys = self._keys
        scripted = [keys.consumers, keys.processing(consumer), keys.pending, keys.dead_letter, keys.counters]
        moved = 0
        while True:
            elements = _NEWEST(self._client, [keys.processing(consumer)], [RECOVER_BATCH, MAX_TRANSFER_BYTES])
            if not elements:
                return moved
            arguments: list[Any] = [consumer]
            for element in elements:
                arguments += (element, *self._next(element, consumer))
            result = _RECOVER(self._client, scripted, arguments)
            if result < 0:
                return moved
            moved += result

    def _next(self, element: bytes, consumer: str) -> tuple[bytes, str]:
        """The element's bytes after this recovery, and where they go."""
        try:
            task = decode(element)
            count = task.recovered_count + 1
            if count - task.recoveries_forgiven <= self._config.max_recoveries:
                return revise(element, recovered_count=count), "pending"
            last = printable(consumer, NAME_CHARS_MAX)
            error = f"Its worker vanished {count - task.recoveries_forgiven} times, the last was {last}."
            return last_words(element, error, recovered_count=count), "dead_letter"
        except Undecodable:
            return element, "dead_letter"

    def promote(self) -> int:
        """Move due retries to the end of the queue. How many."""
        promoted = 0
        for _ in range(PROMOTE_ROUNDS):
            moved = _PROMOTE(self._client, [self._keys.delayed, self._keys.pending], [PROMOTE_BATCH])
            promoted += moved
            if moved < PROMOTE_BATCH:
                break
        return promoted

    def expire(self, consumer: str) -> bool:
        """End a consumer's lease now: for a parent that saw its child die. True: it had been living."""
        return bool(_EXPIRE(self._client, [self._keys.consumers], [consumer]))

    def adopt(self) -> int:
        """The slow sweep: give every processing list that no entry names an entry, and forget old tombstones.

        How many lists were adopted.
        """
        return sum(self.adopting())

    def adopting(self) -> Iterator[int]:
        """The same in steps of one SCAN each: it looks at every key of the database, and they may be millions."""
        prefix = self._keys.processing("")
        pattern = "".join(f"\\{c}" if c in r"*?[]\^" else c for c in prefix) + "*"
        cursor: Any = None
        while cursor != 0:
            page: Any = self._client.scan(cursor or 0, match=pattern, count=SCAN_COUNT, _type="list")
            cursor, keys = page
            names = self._ours(key[len(prefix.encode()) :] for key in keys)
            yield sum(_ADOPT(self._client, [self._keys.consumers], [self._config.lease_ms, name]) for name in names)
        for name in self._ours(self._ended_before(self._config.tombstone_ms)):
            old = [self._keys.consumers, self._keys.processing(name), self._keys.presence]
            _FORGET(self._client, old, [name, self._config.tombstone_ms])

    def _ours(self, names: Iterable[bytes]) -> Iterator[str]:
        """All but what is no UTF-8: no consumer has such a name, so it is somebody else's, and left alone."""
        for name in names:
            try:
                yield name.decode()
            except UnicodeDecodeError:
                if name not in self._foreign:
                    logger.warning("No consumer is called %r: what lies under this name is left alone.", name)
                self._foreign.add(name)
