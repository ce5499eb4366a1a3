"""Maintenance: give back what dead consumers held, move what is due.

It runs in every worker process, needs no leader and no traffic (I4): each step checks again, inside its script, that
it may be taken, so two reapers at the same time do no harm. No entry leaves Redis for it.
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

MOVE_BATCH = 100  # entries that one script moves at most, so that nobody waits long for it
MOVE_BYTES = 16_777_216  # ... and of that many bytes; one may have more
PROMOTE_ROUNDS = 1_000  # a sweep is bounded: 100,000 due tasks at the most
ROUNDS = 10  # in a sweep: in each one process asks who is absent; with longer ones a dead worker is noticed later
SCAN_COUNT = 1_000  # keys looked at in one step of the search for orphans

# KEYS  the bell and the three lists, processing, consumers, numbers, presence, dead_letter, counters, info, vanished
# ARGV  consumer, how many at most, how many bytes at most, max_recoveries, 1 to do it under a living lease, how the
#       consumer is called in a reason
# Returns {how many entries it moved, how many are left, why one could not be buried or ''}; -1 and 0 when the lease
#         lives, or what is there is nothing of this queue
# The highest numbers first, so that after several calls the oldest stand in front. A hash has no order of its own. An
# entry that cannot be buried stays, and the others go on. With the last entry the consumer leaves the registry.
# That it vanished, and what it had said of itself, is noted for the monitor, by `pcall`; not of one that left in order.
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
table.sort(numbers, function(a, b) return tonumber(a) > tonumber(b) end)
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
# ARGV  how many at most, how many bytes at most
# Returns how many were moved
# They go to the end of their list: a stream of failing tasks must not push ahead of the others.
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
# ARGV  the beginning of every presence channel, absence_ms, the length of a round in ms
# Ends the lease of each consumer that has been absent for `absence_ms`: its lease lives, but nobody is subscribed to
# its channel, though it has been on this very server. Does nothing where another process has asked in this round.
# Since when one is absent is noted beside its mark, so that any process may ask in any round, and nothing is lost with
# one that dies. A round ends early when an absence is long enough. The turn is noted last: a process that may not ask
# takes it from nobody. A time further ahead than it can be is of before the clock was set back.
_END_ABSENT = Script(f"""#!lua flags=allow-oom
{NOW}
local absence, round = tonumber(ARGV[2]), tonumber(ARGV[3])
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
      else round = math.min(round, gone + absence - now) end
    end
  end
end
redis.call('SET', KEYS[3], string.format('%d', now + round), 'PX', round)
""")

# KEYS  consumers
# ARGV  lease_ms, consumer
# Returns 1 when the consumer had no entry and has one now
# Its owner may live: it gets a whole lease to say so.
_ADOPT = Script(f"""#!lua flags=allow-oom
{NOW}
return redis.call('ZADD', KEYS[1], 'NX', now + ARGV[1], ARGV[2])
""")


class Refusal:
    """Says once why Redis refuses what it will be asked again: an ACL, or what passes, as a failover does."""

    def __init__(self, meaning: str) -> None:
        self._meaning, self._said = meaning, ""

    def say(self, error: redis.ResponseError) -> None:
        if str(error) != self._said:
            logger.warning("%s: %s", self._meaning, error)
        self._said = str(error)


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one sweep moved."""

    recovered: int
    promoted: int


class Reaper:
    """Recovers the tasks of dead workers."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        self._client, self._config, self._keys = client, config, Keys(config.namespace)
        self._refusal = Refusal(
            "Redis refuses to tell which consumers have vanished; until it does, leases alone count"
        )
        self._unburied = Refusal("What is to be given up stays with the dead worker, as Redis refuses to keep it")
        self._foreign: set[bytes] = set()  # names that were logged

    def sweep(self) -> Sweep:
        """Recover from every consumer whose lease ended or that has vanished, and promote what is due."""
        if self._config.absence_ms:
            self._end_leases_of_the_vanished()
        seconds, microseconds = self._client.time()
        now_ms = seconds * 1000 + microseconds // 1000
        ended: Any = self._client.zrangebyscore(self._keys.consumers, "-inf", now_ms)
        recovered = sum(self.recover(consumer) for consumer in self._ours(ended))
        return Sweep(recovered, self.promote())

    def _end_leases_of_the_vanished(self) -> None:
        """A worker whose connections are gone, and stay gone, was killed: see `worker/presence.py`."""
        keys = [self._keys.consumers, self._keys.presence, self._keys.asked]
        round_ms = max(1, self._config.sweep_ms // ROUNDS)
        try:
            _END_ABSENT(self._client, keys, [self._keys.presence_channel(""), self._config.absence_ms, round_ms])
        except redis.ResponseError as error:
            self._refusal.say(error)

    def recover(self, consumer: str, *, is_dead: bool = False) -> int:
        """Move all that a dead consumer holds back to the claiming end of pending, or to dead_letter (I4, I5).

        How many were moved; none while its lease lives, unless the caller knows that it `is_dead`.
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
        """Move what is due to the end of the queue. How many."""
        promoted = 0
        for _ in range(PROMOTE_ROUNDS):
            moved = _PROMOTE(self._client, [*self._keys.waiting, self._keys.delayed], [MOVE_BATCH, MOVE_BYTES])
            promoted += moved
            if not moved:
                break
        return promoted

    def adopt(self) -> int:
        """Give what no entry of `consumers` names an entry, so that a sweep recovers it after a lease. How many.

        The queue leaves nothing like that behind: a manual change, or a copy of some of its keys, may. It looks at
        every key of the database, in steps.
        """
        prefix = self._keys.processing("")
        pattern = "".join(f"\\{c}" if c in r"*?[]\^" else c for c in prefix) + "*"
        names = (key[len(prefix.encode()) :] for key in self._client.scan_iter(pattern, SCAN_COUNT, _type="hash"))
        arguments = ([self._config.lease_ms, name] for name in self._ours(names))
        adopted: int = sum(_ADOPT(self._client, [self._keys.consumers], each) for each in arguments)
        return adopted

    def _ours(self, names: Iterable[bytes]) -> Iterator[str]:
        """All but what is not UTF-8: no consumer has such a name, so it is foreign, and left alone."""
        for name in names:
            try:
                yield name.decode()
            except UnicodeDecodeError:
                if name not in self._foreign:
                    logger.warning("No consumer is called %r: what lies under this name is left alone.", name)
                self._foreign.add(name)
