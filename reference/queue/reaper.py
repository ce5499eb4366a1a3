"""Maintenance: recover the tasks of dead consumers, and make due tasks pending.

It runs in every worker process, and needs no leader and no traffic (I4). Each script checks that its step is allowed,
so two reapers at the same time do no harm. Entries move inside Redis only.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import redis

from .config import Config
from .connection import Script
from .keys import Keys
from .lua import BURY, HEADER, LISTS, NOW, VANISHED_MAX
from .texts import NAME_CHARS_MAX, printable

logger = logging.getLogger(__name__)

MOVE_BATCH = 100  # limit on the entries that one script moves: other commands wait for it
MOVE_BYTES = 16_777_216  # limit on their bytes; a single entry may exceed it
PROMOTE_ROUNDS = 1_000  # bounds a sweep to 100,000 due tasks
ROUNDS = 10  # per sweep; in each round one process looks for absent consumers. Longer rounds find a dead worker later
SCAN_COUNT = 1_000  # keys read in one step of the search for orphans

# KEYS  the bell and the three lists, processing, consumers, numbers, presence, dead_letter, counters, info, vanished
# ARGV  consumer, limit in entries, limit in bytes, max_recoveries, 1 to recover under a live lease as well, the
#       consumer's name for the text of a dead letter
# Returns {number of entries moved, number of entries left, why one could not be dead-lettered or ''}; -1 and 0 if the
#         lease lives, or the processing key is not a hash
# The highest numbers go first, so that after several calls the oldest tasks are in front. A hash has no order. A field
# that is not a number (a manual change) counts as 0: an error here would end the sweeps of all workers. An entry that
# cannot be dead-lettered stays, and the others are moved. With its last entry the consumer leaves the registry.
# The vanished consumer and its description are recorded for the monitor, by `pcall`, unless it had left in order.
_RECOVER = Script(f"""#!lua flags=allow-oom
{NOW}{HEADER}{LISTS}{BURY}
local lease = redis.call('ZSCORE', KEYS[6], ARGV[1])
if ARGV[5] == '1' then
  if lease and tonumber(lease) > now then redis.call('ZADD', KEYS[6], now, ARGV[1]) end
elseif lease and tonumber(lease) > now then
  return {{-1, 0, ''}}
end
local kind = redis.call('TYPE', KEYS[5]).ok
if kind ~= 'hash' and kind ~= 'none' then return {{-1, 0, ''}} end
local numbers = redis.call('HKEYS', KEYS[5])
local function place(field) return string.match(field, '^%d+$') and tonumber(field) or 0 end
table.sort(numbers, function(a, b) return place(a) > place(b) end)
local recovered, dead, bytes, refusal = 0, 0, 0, ''
for i = 1, math.min(#numbers, ARGV[2]) do
  bytes = bytes + redis.call('HSTRLEN', KEYS[5], numbers[i])
  if i > 1 and bytes > tonumber(ARGV[3]) then break end
  local entry = redis.call('HGET', KEYS[5], numbers[i])
  local head = heading(entry)
  local kept = false
  if head then
    head.attempt, head.recoveries = head.attempt + 1, head.recoveries + 1
    entry = headed(head, entry)
  end
  if head and head.recoveries <= tonumber(ARGV[4]) then
    redis.call('RPUSH', pending(head), entry)
    recovered = recovered + 1
  else
    local text = head and 'Its worker vanished ' .. head.recoveries .. ' times, the last was ' .. ARGV[6] .. '.'
      or 'It cannot be read, and its worker vanished.'
    local refused = bury(KEYS[9], entry, 'vanished', text, '', ARGV[1])
    kept = refused ~= nil
    if kept then refusal = refused.err else dead = dead + 1 end
  end
  if not kept then redis.call('HDEL', KEYS[5], numbers[i]) end
end
if recovered > 0 then redis.call('HINCRBY', KEYS[10], 'recovered', recovered) end
if dead > 0 then redis.call('HINCRBY', KEYS[10], 'dead_lettered', dead) end
local left = redis.call('HLEN', KEYS[5])
if left == 0 then
  redis.call('ZREM', KEYS[6], ARGV[1])
  redis.call('HDEL', KEYS[7], ARGV[1])
  redis.call('HDEL', KEYS[8], ARGV[1])
end
if lease and left == 0 or recovered + dead > 0 then
  local about = redis.pcall('HGET', KEYS[11], ARGV[1])
  redis.pcall('XADD', KEYS[12], 'MAXLEN', {VANISHED_MAX}, '*', 'consumer', ARGV[1],
    'about', type(about) == 'string' and about or '', 'recovered', recovered, 'dead_lettered', dead)
end
if left == 0 then redis.pcall('HDEL', KEYS[11], ARGV[1]) end
ring()
return {{recovered + dead, left, refusal}}
""")

# KEYS  the bell and the three lists, delayed
# ARGV  limit in entries, limit in bytes
# Returns how many entries were moved
# They go to the end of their list: a stream of failing tasks must not overtake the others.
_PROMOTE = Script(f"""#!lua flags=allow-oom
{NOW}{HEADER}{LISTS}
local moved, bytes = 0, 0
while moved < tonumber(ARGV[1]) and bytes < tonumber(ARGV[2]) do
  local due = redis.call('ZRANGEBYSCORE', KEYS[5], '-inf', now, 'LIMIT', 0, 16)
  if #due == 0 then break end
  for _, entry in ipairs(due) do
    redis.call('LPUSH', pending(heading(entry)), entry)
    redis.call('ZREM', KEYS[5], entry)
    bytes = bytes + #entry
  end
  moved = moved + #due
end
if moved > 0 then ring() end
return moved
""")

# KEYS  consumers, presence, asked
# ARGV  the prefix of all presence channels, absence_ms, the length of a round in ms
# Returns in how many ms the first absence will be long enough; nothing if no consumer is absent, or it did not look
# Ends the lease of each consumer that has been absent for `absence_ms`. Absent means: its lease lives, its subscription
# was recorded on this very server, and its channel has no subscriber now. Does nothing if another process has looked in
# this round. The start of an absence is stored in `presence`, so that any process can look in any round, and the death
# of a process loses nothing. A round ends early when an absence becomes long enough. `asked` is written last: a process
# that an ACL denies the look takes no round from the others. An `asked` further ahead than one round is left over from
# before the clock was set back.
_END_ABSENT = Script(f"""#!lua flags=allow-oom
{NOW}
local absence, round, soonest = tonumber(ARGV[2]), tonumber(ARGV[3]), nil
local asked = tonumber(redis.call('GET', KEYS[3]) or 0)
if now < asked and asked <= now + round then return end
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local living = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')
for from = 1, #living, 1000 do
  local marks = redis.call('HMGET', KEYS[2], unpack(living, from, math.min(from + 999, #living)))
  local names, channels, since = {{}}, {{}}, {{}}
  for i, mark in ipairs(marks) do
    local seen, gone = string.match(mark or '', '^(%x+) ?(%d*)$')
    if seen == run_id then
      names[#names + 1], channels[#channels + 1] = living[from + i - 1], ARGV[1] .. living[from + i - 1]
      since[#since + 1] = tonumber(gone) or false
    end
  end
  local counts = #names > 0 and redis.call('PUBSUB', 'NUMSUB', unpack(channels)) or {{}}
  for i, name in ipairs(names) do
    local gone = since[i]
    if counts[2 * i] > 0 then
      if gone then redis.call('HSET', KEYS[2], name, run_id) end
    else
      if not gone or gone > now then
        gone = now
        redis.call('HSET', KEYS[2], name, run_id .. string.format(' %d', now))
      end
      if now - gone >= absence then redis.call('ZADD', KEYS[1], now, name)
      else soonest = math.min(soonest or absence, gone + absence - now) end
    end
  end
end
round = math.min(round, soonest or round)
redis.call('SET', KEYS[3], string.format('%d', now + round), 'PX', round)
return soonest
""")

# KEYS  consumers
# ARGV  lease_ms, consumer
# Returns 1 if the consumer had no lease and has one now
# Its owner may be alive: it gets a whole lease in which to renew.
_ADOPT = Script(f"""#!lua flags=allow-oom
{NOW}
return redis.call('ZADD', KEYS[1], 'NX', now + ARGV[1], ARGV[2])
""")


class Refusal:
    """Logs a refusal that repeats only once: it may last, as with an ACL, or pass, as in a failover."""

    def __init__(self, meaning: str) -> None:
        self._meaning, self._said = meaning, ""

    def say(self, error: redis.ResponseError) -> None:
        if str(error) != self._said:
            logger.warning("%s: %s", self._meaning, error)
        self._said = str(error)


@dataclass(frozen=True, slots=True)
class Sweep:
    """How many tasks one sweep moved, and when another one can recover more."""

    recovered: int
    promoted: int
    again_ms: int | None = None  # in how many ms the first absent consumer will count as dead; None: none is known


class Reaper:
    """Recovers the tasks of dead workers."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        self._client, self._config, self._keys = client, config, Keys(config.namespace)
        self._refusal = Refusal(
            "Redis refuses to report which consumers are connected; dead ones are found by their leases only"
        )
        self._unburied = Refusal("Redis refuses to store dead letters; the tasks stay with the dead worker")
        self._foreign: set[bytes] = set()  # names that are already logged

    def sweep(self) -> Sweep:
        """Recover the tasks of each consumer whose lease ended or that vanished, and promote due tasks."""
        again_ms = self.look()
        seconds, microseconds = self._client.time()
        now_ms = seconds * 1000 + microseconds // 1000
        ended: Any = self._client.zrangebyscore(self._keys.consumers, "-inf", now_ms)
        recovered = sum(self.recover(consumer) for consumer in self._ours(ended))
        return Sweep(recovered, self.promote(), again_ms)

    def look(self) -> int | None:
        """End the leases of killed workers: their connections are gone, and stay gone (see `worker/presence.py`).

        Return `Sweep.again_ms`. It costs little if another process has just looked.
        """
        if not self._config.absence_ms:
            return None
        keys = [self._keys.consumers, self._keys.presence, self._keys.asked]
        round_ms = max(1, self._config.sweep_ms // ROUNDS)
        arguments = [self._keys.presence_channel(""), self._config.absence_ms, round_ms]
        try:
            again_ms: int | None = _END_ABSENT(self._client, keys, arguments)
        except redis.ResponseError as error:
            self._refusal.say(error)
            return None
        return again_ms

    def recover(self, consumer: str, *, is_dead: bool = False) -> int:
        """Move all tasks of a dead consumer back to the claiming end of pending, or to dead_letter (I4, I5).

        Return how many were moved: 0 while the lease lives, unless the caller knows that the consumer `is_dead`.
        """
        keys = self._keys
        of_it = [keys.processing(consumer), keys.consumers, keys.numbers, keys.presence]
        scripted = [*keys.waiting, *of_it, keys.dead_letter, keys.counters, keys.info, keys.vanished]
        bounds = [MOVE_BATCH, MOVE_BYTES, self._config.max_recoveries, int(is_dead)]
        total: int = 0
        while True:
            arguments = [consumer, *bounds, printable(consumer, NAME_CHARS_MAX)]
            moved, left, refusal = _RECOVER(self._client, scripted, arguments)
            if refusal:
                self._unburied.say(redis.ResponseError(refusal.decode(errors="replace")))
            total += max(0, moved)
            if moved <= 0 or not left:
                return total

    def promote(self) -> int:
        """Move due tasks to the end of the queue. Return how many."""
        promoted = 0
        for _ in range(PROMOTE_ROUNDS):
            moved = _PROMOTE(self._client, [*self._keys.waiting, self._keys.delayed], [MOVE_BATCH, MOVE_BYTES])
            promoted += moved
            if not moved:
                break
        return promoted

    def adopt(self) -> int:
        """Register processing hashes that are missing in `consumers`: a sweep recovers them after a lease.

        Return how many. The queue leaves no such hash; a manual change, or a copy of some of its keys, may. The search
        reads the name of every key of the database, in steps.
        """
        prefix = self._keys.processing("")
        pattern = "".join(f"\\{c}" if c in r"*?[]\^" else c for c in prefix) + "*"
        names = (key[len(prefix.encode()) :] for key in self._client.scan_iter(pattern, SCAN_COUNT, _type="hash"))
        arguments = ([self._config.lease_ms, name] for name in self._ours(names))
        adopted: int = sum(_ADOPT(self._client, [self._keys.consumers], each) for each in arguments)
        return adopted

    def _ours(self, names: Iterable[bytes]) -> Iterator[str]:
        """Yield the names that are UTF-8. No consumer has another name, so other names are foreign and left alone."""
        for name in names:
            try:
                yield name.decode()
            except UnicodeDecodeError:
                if name not in self._foreign:
                    logger.warning("%r cannot be a consumer's name, as it is not UTF-8: its key is ignored.", name)
                self._foreign.add(name)
