"""One consumer's verbs: what a claimer does with what its process holds. Each is one atomic step in Redis (I1).

A consumer holds its tasks in a hash of its own, each under the number of its delivery. After a lost reply it reads its
own hash, and whatever lies there and is not in its hands is its own next work. In a hash shared by several nobody could
tell a claim in transit from an orphan.

Ownership (I3) is the presence of the number in the consumer's own hash, nothing else. The lease says when others may
take the tasks over, and a claim hands nothing out without one; an ack never looks at it.

Numbers are the consumer's own, and go up only: after a lost reply it goes on above all that it may have been given. A
claim whose first number is not above the highest that was ever used does nothing. Else a request that the network
repeats would put a second task in the place of the first, which would be lost.
"""

import os
import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise
from typing import Any, NamedTuple

import redis
from redis.exceptions import NoScriptError

from .config import Config
from .connection import LEADS_ASTRAY, Script, borrowed
from .errors import LeaseLost, QueueError
from .keys import Keys
from .lua import BURY, DELAY, HEADER, LISTS, NOTE, NOW
from .protocol import refuse_other_protocol
from .task import Task
from .texts import MAX_ERROR_CHARS, TRACEBACK_CHARS_MAX

# What one reply carries of the tasks' bytes: about a MiB, and at least one task. Beyond it a slow link would take
# longer for a reply than anybody waits, and the same tasks would be fetched again and again.
MAX_TRANSFER_BYTES = 1_048_576

TURNS = 16  # of so many claimed tasks one is looked for among the low ones first, and one among the default ones

# `ack(numbers)` finishes what is done: those in a text that are held. Returns those that are not.
ACK = """
local function ack(processing, counters, numbers)
  local lost, completed = {}, 0
  for done in string.gmatch(numbers, '%d+') do
    if redis.call('HDEL', processing, done) == 1 then completed = completed + 1
    else lost[#lost + 1] = tonumber(done) end
  end
  if completed > 0 then redis.call('HINCRBY', counters, 'completed', completed) end
  return lost
end
"""

# `give_back(numbers)` puts what is held under the numbers in a text to the claiming end: highest first, so that the
# lowest is claimed first again. Returns how many were held.
GIVE_BACK = """
local function give_back(processing, numbers)
  local released = 0
  for number in string.gmatch(numbers, '%d+') do
    local entry = redis.call('HGET', processing, number)
    if entry then
      redis.call('RPUSH', pending(heading(entry)), entry)
      redis.call('HDEL', processing, number)
      released = released + 1
    end
  end
  return released
end
"""

# KEYS  consumers, processing, paused, numbers, info, then, where the minute is known: its series, counters, the three
#       lists, delayed, dead_letter
# ARGV  consumer, lease_ms, the highest number that a claim may have been given, what the consumer says of itself or '',
#       then fields of the series and how much to add to each
# Returns {whether the lease had ended or never begun, how many tasks are held, whether claiming is paused, the time}
# Recovery has forgotten the numbers with the entry: noted again, they keep out what the network repeats from before.
# What is for the monitor comes last, and by `pcall`. Who notes for all also removes what consumers said that are not
# registered any more: a reaper of a release that knows nothing of it leaves it.
_RENEW = Script(f"""#!lua flags=allow-oom
{NOW}{NOTE}
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease and ARGV[3] ~= '0' then redis.call('HSET', KEYS[4], ARGV[1], ARGV[3]) end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
local held, paused = redis.call('HLEN', KEYS[2]), redis.call('EXISTS', KEYS[3])
if ARGV[4] ~= '' then redis.pcall('HSET', KEYS[5], ARGV[1], string.format('%d ', now) .. ARGV[4]) end
if KEYS[6] and note(KEYS[6], now, {{KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]}}, ARGV, 5) then
  for _, name in ipairs(redis.pcall('HKEYS', KEYS[5])) do
    if redis.pcall('ZSCORE', KEYS[1], name) == false then redis.pcall('HDEL', KEYS[5], name) end
  end
end
return {{(lease and tonumber(lease) > now) and 0 or 1, held, paused, now}}
""")

# KEYS  the bell and the three lists, processing, consumers, numbers, counters
# ARGV  consumer, the first number to give, how many tasks to claim at most, of how many bytes (one may have more),
#       whose turn it is, the numbers that are done
# Returns {whether the lease lives, those of the numbers that it did not hold, whether it left something pending
#         for its size, the lengths of the entries claimed, in the order of their numbers, and these in one string}
# One round trip for a whole batch of acks and the next claims, and one string for a whole batch of entries (redis-py
# takes 3 us for each part of a reply): that is where the speed lies. It reads 16 entries at a time: of unknown sizes,
# 256 could fill Lua's heap.
_SETTLE = Script(f"""#!lua flags=allow-oom
{NOW}{HEADER}{LISTS}{ACK}
local lost = ack(KEYS[5], KEYS[8], ARGV[6])
local lease, number = redis.call('ZSCORE', KEYS[6], ARGV[1]), tonumber(ARGV[2])
local lives, limit = lease and tonumber(lease) > now, tonumber(ARGV[3])
if not lives or limit > 0 and number <= tonumber(redis.call('HGET', KEYS[7], ARGV[1]) or 0) then limit = 0 end
local length, taken, read = {{}}, {{0, 0, 0}}, {{{{}}, {{}}, {{}}}}
for i = 1, 3 do length[i] = limit > 0 and redis.call('LLEN', KEYS[i + 1]) or 0 end
local fields, entries, lengths, count, bytes, full = {{}}, {{}}, {{}}, 0, 0, false
local bytes_max, start = tonumber(ARGV[4]), tonumber(ARGV[5])
while count < limit do
  local turn = (start + count) % {TURNS}
  local at = turn == 0 and 3 or turn == {TURNS // 2} and 2 or 1
  if taken[at] == length[at] then at = taken[1] < length[1] and 1 or taken[2] < length[2] and 2 or 3 end
  local had = taken[at]
  if had == length[at] then break end
  local slice = read[at]
  local left = #slice
  if left == 0 then
    slice = redis.call('LRANGE', KEYS[at + 1], -math.min(had + 16, had + limit - count), -had - 1)
    read[at] = slice
    left = #slice
  end
  local entry = slice[left]
  local size = #entry
  full = count > 0 and bytes + size > bytes_max
  if full then break end
  slice[left] = nil
  taken[at] = had + 1
  if string.byte(entry) ~= 100 and string.find(entry, '^%s*{{') then
    entry = string.format('%s,1,0,0,%d,0,;', string.sub('hdl', at, at), now) .. entry
    size = #entry
  end
  fields[2 * count + 1], fields[2 * count + 2] = number + count, entry
  count = count + 1
  entries[count], lengths[count] = entry, size
  bytes = bytes + size
end
if count > 0 then
  for from = 1, 2 * count, 1000 do
    redis.call('HSET', KEYS[5], unpack(fields, from, math.min(from + 999, 2 * count)))
  end
  redis.call('HSET', KEYS[7], ARGV[1], number + count - 1)
  for i = 1, 3 do
    if taken[i] > 0 then redis.call('LTRIM', KEYS[i + 1], 0, -taken[i] - 1) end
  end
end
ring()
return {{lives and 1 or 0, lost, full and 1 or 0, table.concat(lengths, ' '), table.concat(entries)}}
""")

# KEYS  processing
# ARGV  how many bytes at most (one entry may have more), then numbers, in their order
# Returns their entries, as many as that takes; '' for one that is not held
_READ = Script("""#!lua flags=no-writes
local entries, bytes = {}, 0
for i = 2, #ARGV do
  bytes = bytes + redis.call('HSTRLEN', KEYS[1], ARGV[i])
  if i > 2 and bytes > tonumber(ARGV[1]) then break end
  entries[#entries + 1] = redis.call('HGET', KEYS[1], ARGV[i]) or ''
end
return entries
""")

# KEYS  processing, delayed, counters
# ARGV  number, delay_ms
# Returns 1, or 0 when it was not held, or has no header
_RETRY = Script(f"""#!lua flags=allow-oom
{NOW}{HEADER}{DELAY}
local entry = redis.call('HGET', KEYS[1], ARGV[1])
local head = entry and heading(entry)
if not head then return 0 end
head.attempt, head.retries = head.attempt + 1, head.retries + 1
delay(KEYS[2], now + ARGV[2], head, entry)
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HINCRBY', KEYS[3], 'failed', 1)
redis.call('HINCRBY', KEYS[3], 'retried', 1)
return 1
""")

# KEYS  processing, dead_letter, counters
# ARGV  number, how many failures of a handler to count (0 or 1), reason, error, traceback, consumer
# Returns 1, or 0 when it was not held
_DEAD_LETTER = Script(f"""#!lua flags=allow-oom
{HEADER}{BURY}
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if not entry then return 0 end
local head = heading(entry)
if head then
  head.attempt, head.retries = head.attempt + 1, head.retries + ARGV[2]
  entry = headed(head, entry)
end
local refusal = bury(KEYS[2], entry, ARGV[3], ARGV[4], ARGV[5], ARGV[6])
if refusal then return refusal end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HINCRBY', KEYS[3], 'failed', ARGV[2])
redis.call('HINCRBY', KEYS[3], 'dead_lettered', 1)
return 1
""")

# KEYS  the bell and the three lists, processing
# ARGV  the numbers to give back, highest first
# Returns how many of them were held and are given back
_RELEASE = Script(f"""#!lua flags=allow-oom
{HEADER}{LISTS}{GIVE_BACK}
local released = give_back(KEYS[5], ARGV[1])
ring()
return released
""")

# KEYS  the bell and the three lists, processing, counters, consumers, presence, numbers, info
# ARGV  consumer, the numbers that are done, the numbers to give back, highest first
# Returns {1 when it left, 0 when it still holds tasks: then its lease ends now and they are recovered,
#         those of the numbers that are done that it did not hold}
# One step, so that a worker that is killed while it leaves has either all of it behind it or none.
# A claim that is under way finds no lease after it.
_LEAVE = Script(f"""#!lua flags=allow-oom
{NOW}{HEADER}{LISTS}{ACK}{GIVE_BACK}
local lost = ack(KEYS[5], KEYS[6], ARGV[2])
give_back(KEYS[5], ARGV[3])
local left = redis.call('HLEN', KEYS[5]) == 0
if left then
  redis.call('ZREM', KEYS[7], ARGV[1])
  redis.call('HDEL', KEYS[8], ARGV[1])
  redis.call('HDEL', KEYS[9], ARGV[1])
  redis.pcall('HDEL', KEYS[10], ARGV[1])
else
  redis.call('ZADD', KEYS[7], now, ARGV[1])
end
ring()
return {{left and 1 or 0, lost}}
""")


class Claimed(NamedTuple):
    """An entry, and the number under which its consumer holds it."""

    number: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class Renewal:
    """`lapsed`: the lease had ended, or this is the first. `holding`: tasks held now. `paused`: claim none.

    `time_ms`: when that was, by Redis's clock.
    """

    lapsed: bool
    holding: int
    paused: bool = False
    time_ms: int = field(default=0, compare=False)


class Report(NamedTuple):
    """What goes along with a renewal, for the monitor alone; it may be lost.

    `about`: the consumer, as a short JSON object. `minute`: the minute since the epoch that the counts belong to, by
    Redis's clock; 0: not known. `counts`: fields of its series, and how much to add to each.
    """

    about: str = ""
    minute: int = 0
    counts: Mapping[str, int] = {}


NO_REPORT = Report()


@dataclass(frozen=True, slots=True)
class Settlement:
    """`lost`: numbers that were not held any more (I3). `claimed`: new entries, oldest first.

    `more`: the next task is pending and was not claimed, since one reply would have been too large.
    """

    lease_lives: bool
    lost: list[int]
    claimed: list[Claimed]
    more: bool = False


class Departure(NamedTuple):
    """`left`: nothing is held any more, and it is off the registry. `lost`: numbers that were not held (I3)."""

    left: bool
    lost: list[int]


class Consumer:
    """One claimer's side of the queue. Its name is used by one claimer only, and never again after that."""

    def __init__(self, client: redis.Redis, config: Config, name: str) -> None:
        self.name = name
        self._client, self._config, self._keys = client, config, Keys(config.namespace)
        self._processing = self._keys.processing(name)
        self._pid = os.getpid()
        self._agreed = False  # that the queue speaks this protocol
        self._given = 0  # the highest number that a claim may have been given
        self._turn = random.randrange(TURNS)
        self._lock = threading.Lock()  # a wait and other verbs may come from two threads

    def renew(self, report: Report = NO_REPORT) -> Renewal:
        """Begin or extend the lease by `lease_ms` from now, by Redis's clock.

        Raises:
            OtherProtocol: the queue was written by another release.
        """
        self._refuse_fork()
        if not self._agreed:
            refuse_other_protocol(self._client, self._keys)
            self._agreed = True
        names = self._keys
        keys = [names.consumers, self._processing, names.paused, names.numbers, names.info]
        arguments: list[Any] = [self.name, self._config.lease_ms, self._given, report.about]
        if report.minute:
            keys += [names.series(report.minute), names.counters, *names.lists, names.delayed, names.dead_letter]
            arguments += chain.from_iterable(report.counts.items())
        lapsed, holding, paused, time_ms = _RENEW(self._client, keys, arguments)
        return Renewal(bool(lapsed), holding, bool(paused), time_ms)

    def settle(self, done: Sequence[int], limit: int) -> Settlement:
        """Ack the numbers that are done and claim up to `limit` more, of about `MAX_TRANSFER_BYTES`, in one round trip.

        Nothing is claimed while a wait is under way: its number may be given first.
        """
        number = self.reserve(limit)
        return self._settled(number, _SETTLE(self._client, *self._settling(number, limit, done)))

    def reserve(self, count: int) -> int:
        """The first of so many numbers that no claim was given yet, nor will be again."""
        with self._lock:
            first = self._given + 1
            self._given += count
            return first

    def _settling(self, number: int, limit: int, done: Sequence[int]) -> tuple[list[str], list[Any]]:
        self._refuse_fork()
        keys = self._keys
        used = [*keys.waiting, self._processing, keys.consumers, keys.numbers, keys.counters]
        return used, [self.name, number, limit, MAX_TRANSFER_BYTES, self._turn, _text(done)]

    def _settled(self, number: int, reply: Any) -> Settlement:
        lives, lost, more, lengths, entries = reply
        ends = list(accumulate(map(int, lengths.split()), initial=0))
        claimed = [Claimed(number + i, entries[start:end]) for i, (start, end) in enumerate(pairwise(ends))]
        self._turn = (self._turn + len(claimed)) % TURNS
        return Settlement(bool(lives), lost, claimed, bool(more))

    def claim(self, limit: int = 1) -> list[Claimed]:
        """Claim up to `limit` tasks, oldest first; none without a living lease."""
        return self.settle([], limit).claimed

    def claim_waiting(self, number: int, timeout_ms: int) -> Settlement:
        """Claim one task under a reserved number, when the bell rings, or after `timeout_ms`.

        `BLPOP` and the claim are sent together, so that the claim costs no round trip of its own; Redis runs it when
        the first returns, by a ring or by its time-out. https://redis.io/docs/latest/commands/blpop/
        """
        keys, arguments = self._settling(number, 1, [])
        ring, claim = ("BLPOP", self._keys.bell, timeout_ms / 1000), _SETTLE.command(keys, arguments)
        refusal = None
        with borrowed(self._client) as connection:
            packed = connection.pack_command(*ring) + connection.pack_command(*claim)
            connection.send_packed_command([b"".join(packed)])
            try:
                connection.read_response()
            except redis.ResponseError as error:
                if isinstance(error, LEADS_ASTRAY):
                    raise  # which closes the connection, and a reply that may still come with it
                refusal = error
            try:
                reply = connection.read_response()
            except NoScriptError:  # a definite no, so sending it again is safe
                reply = _SETTLE.on(connection, keys, arguments)
        settlement = self._settled(number, reply)
        if refusal and not settlement.claimed:  # as where BLPOP is not allowed: nothing has been waited for
            time.sleep(timeout_ms / 1000)
        return settlement

    def ack(self, task: Task) -> None:
        """The task is done.

        Raises:
            LeaseLost: it was recovered meanwhile; nothing was changed (I3).
        """
        if self.settle([task.number], 0).lost:
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
        failures = task.retries + 1
        if failures > config.max_retries:
            self._bury(task.number, task.id, "failed", error, traceback, failures=1)
            return False
        delay_ms = backoff_ms(config, failures) if after_ms is None else after_ms
        if not _RETRY(
            self._client, [self._processing, self._keys.delayed, self._keys.counters], [task.number, delay_ms]
        ):
            raise LeaseLost(self.name, task.id)
        return True

    def dead_letter(self, claimed: Claimed, error: str, *, task_id: str = "(unreadable)") -> None:
        """Give up what nobody here can run. What cannot be read is kept as it is.

        Raises:
            LeaseLost: it was recovered meanwhile; nothing was changed (I3).
        """
        self._bury(claimed.number, task_id, "not_runnable", error, "", failures=0)

    def _bury(self, number: int, task_id: str, reason: str, error: str, traceback: str, *, failures: int) -> None:
        keys = [self._processing, self._keys.dead_letter, self._keys.counters]
        words = [reason, error[:MAX_ERROR_CHARS], traceback[-TRACEBACK_CHARS_MAX:], self.name]
        if not _DEAD_LETTER(self._client, keys, [number, failures, *words]):
            raise LeaseLost(self.name, task_id)

    def release(self, numbers: Iterable[int]) -> int:
        """Give back what was not begun to the claiming end, in its order. How many were held."""
        newest_first = _text(sorted(numbers, reverse=True))
        if not newest_first:
            return 0
        released: int = _RELEASE(self._client, [*self._keys.waiting, self._processing], [newest_first])
        return released

    def held(self) -> list[int]:
        """The numbers of all that is held, oldest first."""
        numbers: Any = self._client.hkeys(self._processing)
        return sorted(map(int, numbers))

    def read(self, numbers: Sequence[int]) -> Iterator[Claimed]:
        """What is held under these numbers, read in steps of about `MAX_TRANSFER_BYTES`."""
        while numbers:
            entries = _READ(self._client, [self._processing], [MAX_TRANSFER_BYTES, *numbers])
            yield from (Claimed(*pair) for pair in zip(numbers, entries, strict=False) if pair[1])
            numbers = numbers[len(entries) :]

    def leave(self, done: Iterable[int] = (), unbegun: Iterable[int] = ()) -> Departure:
        """Ack what is done, give back what was not begun, and leave the registry, in one step.

        Where more is held than that, it stays registered, and its lease ends: that is free to be recovered at once.
        """
        keys = self._keys
        used = [*keys.waiting, self._processing, keys.counters, keys.consumers, keys.presence, keys.numbers, keys.info]
        newest_first = _text(sorted(unbegun, reverse=True))
        left, lost = _LEAVE(self._client, used, [self.name, _text(done), newest_first])
        return Departure(bool(left), lost)

    def _refuse_fork(self) -> None:
        if os.getpid() != self._pid:
            raise QueueError(f"Consumer {self.name} belongs to another process: a forked process has to make its own.")


def _text(numbers: Iterable[int]) -> str:
    return " ".join(map(str, numbers))


def backoff_ms(config: Config, failures: int) -> int:
    """Exponential, with jitter on the upper half so that tasks that failed together do not return together."""
    ceiling = min(config.backoff_max_ms, config.backoff_ms * 2 ** min(failures - 1, 32))
    return random.randint(ceiling // 2, ceiling)
