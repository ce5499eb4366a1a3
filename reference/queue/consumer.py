"""One consumer's operations on the tasks that its process holds. Each is one atomic step in Redis (I1).

A consumer holds its tasks in a hash of its own, each under its delivery number. After a lost reply the consumer reads
this hash: an entry that its process does not have in hand is its next work. In a hash shared by several consumers, a
claim in transit would look the same as an orphan.

Ownership (I3) is the presence of the number in the consumer's own hash, nothing else. The lease only says when others
may take the tasks over. A claim returns no task without a live lease; an ack ignores the lease.

Delivery numbers belong to one consumer and only grow. After a lost reply the consumer continues above every number that
it may have used. A claim whose first number is not above the highest used number does nothing. Otherwise a request that
the network repeats would replace the first task by a second one under the same number, and lose the first.
"""

import os
import random
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

import redis
from redis.exceptions import NoScriptError

from .config import Config
from .connection import LEADS_ASTRAY, Script, borrowed, packed
from .consuming.registry import LEAVE, NO_REPORT, RENEW, Departure, Renewal, Report
from .consuming.settling import MAX_TRANSFER_BYTES, SETTLE, TURNS, Claimed, Settlement, read_settlement
from .errors import LeaseLost, QueueError
from .keys import Keys
from .lua import BURY, DELAY, GIVE_BACK, HEADER, LISTS, NOW
from .protocol import refuse_other_protocol
from .task import Task
from .texts import MAX_ERROR_CHARS, TRACEBACK_CHARS_MAX

# KEYS  processing
# ARGV  limit in bytes (the first entry may exceed it), then delivery numbers
# Returns the entries of the first numbers, up to the limit, in their order; nil for a number that is not held
_READ = Script("""#!lua flags=no-writes
local entries, bytes = {}, 0
for i = 2, #ARGV do
  bytes = bytes + redis.call('HSTRLEN', KEYS[1], ARGV[i])
  if i > 2 and bytes > tonumber(ARGV[1]) then break end
  entries[#entries + 1] = redis.call('HGET', KEYS[1], ARGV[i])
end
return entries
""")

# KEYS  processing, delayed, counters
# ARGV  number, delay_ms
# Returns 1, or 0 if the number is not held, or its entry has no header
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
# ARGV  number, handler failures to count (0 or 1), reason, error, traceback, consumer
# Returns 1, or 0 if the number is not held
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
# Returns how many of these numbers were held and are given back
_RELEASE = Script(f"""#!lua flags=allow-oom
{HEADER}{LISTS}{GIVE_BACK}
local released = give_back(KEYS[5], ARGV[1])
ring()
return released
""")

SAMPLE = 100  # consumers that are asked whether one is idle


class Consumer:
    """The queue as one claimer uses it. A consumer's name belongs to one claimer and is never used again."""

    def __init__(self, client: redis.Redis, config: Config, name: str) -> None:
        self.name = name
        self._client, self._config, self._keys = client, config, Keys(config.namespace)
        self._processing = self._keys.processing(name)
        self._pid = os.getpid()
        self._agreed = False  # whether the queue was found to have this protocol
        self._given = 0  # the highest delivery number reserved for a claim
        self._turn = random.randrange(TURNS)
        self._lock = threading.Lock()  # a wait and other verbs may come from two threads

    def renew(self, report: Report = NO_REPORT) -> Renewal:
        """Let the lease end `lease_ms` from now, by Redis's clock. The first call may raise OtherProtocol."""
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
        lapsed, holding, paused, time_ms = RENEW(self._client, keys, arguments)
        return Renewal(bool(lapsed), holding, bool(paused), time_ms)

    def settle(self, done: Sequence[int], limit: int) -> Settlement:
        """Ack the numbers in `done` and claim up to `limit` tasks, of about `MAX_TRANSFER_BYTES`, in one round trip.

        During a wait `limit` must be 0: a claim with a higher number would make the claim of the wait do nothing.
        """
        number = self.reserve(limit)
        return self._settled(number, SETTLE(self._client, *self._settling(number, limit, done)))

    def reserve(self, count: int) -> int:
        """Reserve `count` delivery numbers and return the first; no other claim gets these numbers."""
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
        settlement = read_settlement(number, reply)
        self._turn = (self._turn + len(settlement.claimed)) % TURNS
        return settlement

    def claim(self, limit: int = 1) -> list[Claimed]:
        """Claim up to `limit` tasks, oldest first; without a live lease the list is empty."""
        return self.settle([], limit).claimed

    def claim_waiting(self, number: int, timeout_ms: int) -> Settlement:
        """Claim one task under a reserved number, when the bell rings, or after `timeout_ms`.

        `BLPOP` and the claim are sent together, so that the claim costs no round trip of its own. Redis runs the claim
        when `BLPOP` returns, on a ring or a time-out. https://redis.io/docs/latest/commands/blpop/
        """
        keys, arguments = self._settling(number, 1, [])
        ring, claim = ("BLPOP", self._keys.bell, timeout_ms / 1000), SETTLE.command(keys, arguments)
        refusal = None
        with borrowed(self._client) as connection:
            connection.send_packed_command([packed(*ring) + packed(*claim)])
            try:
                connection.read_response()
            except redis.ResponseError as error:
                if isinstance(error, LEADS_ASTRAY):
                    raise  # closes the connection, so that a late second reply is discarded
                refusal = error
            try:
                reply = connection.read_response()
            except NoScriptError:  # nothing ran, so sending it again is safe
                reply = SETTLE.on(connection, keys, arguments)
        settlement = self._settled(number, reply)
        if refusal and not settlement.claimed:  # BLPOP failed at once, for example denied by an ACL
            time.sleep(timeout_ms / 1000)
        return settlement

    def ack(self, task: Task) -> None:
        """Ack a finished task. Raises LeaseLost if it was recovered meanwhile; nothing is changed then (I3)."""
        if self.settle([task.number], 0).lost:
            raise LeaseLost(self.name, task.id)

    def fail(
        self, task: Task, error: str, traceback: str = "", config: Config | None = None, after_ms: int | None = None
    ) -> bool:
        """Move a task whose handler raised to delayed, or to dead_letter after `max_retries` (I5); True: to delayed.

        Only the end of a long traceback is kept. `config`: the settings of this task type, by default the consumer's.
        `after_ms`: the delay, in place of the backoff. Raises LeaseLost as `ack` does.
        """
        config = config or self._config
        failures = task.retries + 1
        if failures > config.max_retries:
            self._bury(task.number, task.id, "failed", error, traceback, failures=1)
            return False
        delay_ms = backoff_ms(config, failures) if after_ms is None else after_ms
        keys = [self._processing, self._keys.delayed, self._keys.counters]
        if not _RETRY(self._client, keys, [task.number, delay_ms]):
            raise LeaseLost(self.name, task.id)
        return True

    def dead_letter(self, claimed: Claimed, error: str, *, task_id: str = "(unreadable)") -> None:
        """Dead-letter a task that this worker cannot run; an unreadable entry is kept unchanged. Raises as `ack`."""
        self._bury(claimed.number, task_id, "not_runnable", error, "", failures=0)

    def _bury(self, number: int, task_id: str, reason: str, error: str, traceback: str, *, failures: int) -> None:
        keys = [self._processing, self._keys.dead_letter, self._keys.counters]
        words = [reason, error[:MAX_ERROR_CHARS], traceback[-TRACEBACK_CHARS_MAX:], self.name]
        if not _DEAD_LETTER(self._client, keys, [number, failures, *words]):
            raise LeaseLost(self.name, task_id)

    def release(self, numbers: Iterable[int]) -> int:
        """Give back tasks that were not begun to the claiming end, in their order. Return how many were held."""
        newest_first = _text(sorted(numbers, reverse=True))
        if not newest_first:
            return 0
        released: int = _RELEASE(self._client, [*self._keys.waiting, self._processing], [newest_first])
        return released

    def others_idle(self) -> bool:
        """Whether another registered consumer holds no task. With many consumers a sample of them is asked."""
        names: Any = self._client.zrangebyscore(self._keys.consumers, "-inf", "+inf")
        prefix = self._keys.processing("").encode()
        others = [prefix + name for name in names if name != self.name.encode()]
        asked = random.sample(others, min(len(others), SAMPLE))
        return bool(asked) and self._client.exists(*asked) < len(asked)

    def held(self) -> list[int]:
        """Return the numbers of all held tasks, oldest first. An entry under another field is left to recovery."""
        fields: Any = self._client.hkeys(self._processing)
        return sorted(int(field) for field in fields if field.isdigit() and len(field) < 20)

    def read(self, numbers: Sequence[int]) -> Iterator[Claimed]:
        """Yield the entries held under these numbers, read in steps of about `MAX_TRANSFER_BYTES`."""
        while numbers:
            entries = _READ(self._client, [self._processing], [MAX_TRANSFER_BYTES, *numbers])
            yield from (Claimed(*pair) for pair in zip(numbers, entries, strict=False) if pair[1] is not None)
            numbers = numbers[len(entries) :]

    def leave(self, done: Iterable[int] = (), unbegun: Iterable[int] = ()) -> Departure:
        """Ack the numbers in `done`, give back those in `unbegun`, and leave the registry, in one step.

        A consumer that holds other tasks stays registered, and its lease ends now: they can be recovered at once.
        """
        keys = self._keys
        used = [*keys.waiting, self._processing, keys.counters, keys.consumers, keys.presence, keys.numbers, keys.info]
        newest_first = _text(sorted(unbegun, reverse=True))
        left, lost = LEAVE(self._client, used, [self.name, _text(done), newest_first])
        return Departure(bool(left), lost)

    def _refuse_fork(self) -> None:
        if os.getpid() != self._pid:
            raise QueueError(f"Consumer {self.name} belongs to another process: a forked process must make its own.")


def _text(numbers: Iterable[int]) -> str:
    return " ".join(map(str, numbers))


def backoff_ms(config: Config, failures: int) -> int:
    """Return an exponential delay, with jitter on its upper half: tasks that failed together return at other times."""
    ceiling = min(config.backoff_max_ms, config.backoff_ms * 2 ** min(failures - 1, 32))
    return random.randint(ceiling // 2, ceiling)
