"""Enqueue: from "somebody asks" to "promised".

A task is promised when Redis has acknowledged it, and it is as safe as `durability` asks, and only then. Guard (I8),
bound and push are one atomic step.
"""

import hashlib
import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, NamedTuple

import msgspec
import redis
from redis.exceptions import MovedError

from .config import Config
from .connection import NeverSent, Script, borrowed
from .durability import Durability
from .errors import (
    IdempotencyConflict,
    InvalidTask,
    NotAccepted,
    OtherProtocol,
    OutcomeUnknown,
    QueueError,
    QueueFull,
    TaskTooLarge,
)
from .keys import Keys
from .lua import DELAY, HEADER, LISTS, NOW
from .protocol import refuse_other_protocol
from .task import PRIORITIES, encode, new_task_ids

# KEYS  the bell and the three lists, delayed, counters, then the idempotency key of each task that has one
# ARGV  max_pending, max_scheduled, idempotency_ttl_ms, the lengths of the tasks' JSON, this JSON in one string, a
#       letter for the priority of each, then '' or, for each: when it is due ('-', '+' and a delay in ms, or ms since
#       the epoch), then '' or the trace context of each ('-': none), then for each task with an idempotency key: its
#       place (from 1), digest, id
# Returns {length, 'pending' or 'delayed'} when there is no room for all of the new ones, and nothing was done; else -1
#         and an answer for each key: '' for a new task, '!' for a key used with another request, else '=' and the id of
#         the task that it repeats.
# The JSON is one string, and a task without a key has no answer: what redis-py spends on each argument and on each
# part of a reply is more than all the rest that a small task costs.
# The counter is written even if nothing is new, so that a repeated request, too, has a write whose safety can be asked
# for: it comes after the one that it repeats.
# What is refused halfway is not undone. So the counter comes first, all lists are asked for their length, which none of
# another type tells, before anything is added to one, and it is asked whether what comes after that may be done.
# No allow-oom: where memory is short the server refuses the whole script, a definite no.
_ENQUEUE = Script(f"""#!lua
{NOW}{HEADER}{LISTS}{DELAY}
local known, answers, repeated, keys = {{}}, {{-1}}, {{}}, {{}}
for i = 9, #ARGV, 3 do
  local key, digest, id, answer = KEYS[(i + 12) / 3], ARGV[i + 1], ARGV[i + 2], ''
  local seen = known[key] or redis.call('GET', key)
  if seen then
    answer = string.sub(seen, 1, 64) == digest and '=' .. string.sub(seen, 65) or '!'
    repeated[tonumber(ARGV[i])] = true
  else
    known[key] = digest .. id
    keys[#keys + 1] = key
  end
  answers[#answers + 1] = answer
end
local due = ARGV[7] ~= '' and string.gmatch(ARGV[7], '%S+')
local trace = ARGV[8] ~= '' and string.gmatch(ARGV[8], '%S+')
local batches, waiting, later, first, place = {{h = {{}}, d = {{}}, l = {{}}}}, 0, {{}}, 1, 0
local since = string.format('%d', now)
local plain = ',1,0,0,' .. since .. ',0,'
for length in string.gmatch(ARGV[4], '%d+') do
  place = place + 1
  local text = string.sub(ARGV[5], first, first + length - 1)
  local at, context = due and due() or '-', trace and trace() or '-'
  first = first + length
  if not repeated[place] then
    local priority = string.sub(ARGV[6], place, place)
    local entry = priority .. plain .. (context == '-' and '' or context) .. ';' .. text
    local time = at ~= '-' and (string.sub(at, 1, 1) == '+' and now + string.sub(at, 2) or tonumber(at))
    if time and time > now then
      later[#later + 1] = {{time, entry}}
    else
      local batch = batches[priority]
      batch[#batch + 1] = entry
      waiting = waiting + 1
    end
  end
end
local length = 0
for i = 2, 4 do length = length + redis.call('LLEN', KEYS[i]) end
if waiting > 0 and length + waiting > tonumber(ARGV[1]) then return {{length, 'pending'}} end
if #later > 0 then
  local scheduled = redis.call('ZCARD', KEYS[5])
  if scheduled + #later > tonumber(ARGV[2]) then return {{scheduled, 'delayed'}} end
end
if #keys > 0 and not redis.acl_check_cmd('SET', keys[1], '', 'PX', ARGV[3]) then
  return redis.error_reply('NOPERM an idempotency key may not be SET')
end
if #later > 0 and not redis.acl_check_cmd('ZADD', KEYS[5], 'NX', '0', '') then
  return redis.error_reply('NOPERM a scheduled task may not be added')
end
for priority, batch in pairs(batches) do
  if #batch > 0 and #batch < waiting + #later and not redis.acl_check_cmd('LPUSH', lists[priority], '') then
    return redis.error_reply('NOPERM a task may not be pushed')
  end
end
redis.call('HINCRBY', KEYS[6], 'enqueued', waiting + #later)
for priority, batch in pairs(batches) do
  for from = 1, #batch, 1000 do
    redis.call('LPUSH', lists[priority], unpack(batch, from, math.min(from + 999, #batch)))
  end
end
for _, task in ipairs(later) do delay(KEYS[5], task[1], heading(task[2]), task[2]) end
for _, key in ipairs(keys) do redis.call('SET', key, known[key], 'PX', ARGV[3]) end
ring()
return answers
""")
_PUSHED = -1  # what it returns first, where it did its work
_CONFLICT = b"!"
AT_ONCE = "-"
DELAY_MS_MAX = 10 * 366 * 86_400_000
TIME_MS_MAX = 99_999_999_999_999  # 14 digits, the year 5138


LARGE = 65_536  # bytes or characters
_turn = threading.Lock()


@contextmanager
def turn_to_decode(size: int) -> Iterator[None]:
    """Wait for a turn where `size` is large. Not reentrant; wait for nothing else meanwhile.

    Decoded, JSON may take thirty times the memory of its text, and with one interpreter lock many threads decode no
    faster: so large JSON is decoded by one thread at a time.
    """
    if size < LARGE:
        yield
        return
    with _turn:
        yield


def _exactly(number: str) -> list[Any]:
    """A fraction by its text: as a float it would equal others (0.1, 0.10000000000000000001). NaN is in no payload."""
    return [math.nan, number]


def due_in(delay_ms: object) -> str:
    """What `Submission.due` is for a delay.

    Raises:
        InvalidTask: that is no delay.
    """
    if isinstance(delay_ms, float) and delay_ms.is_integer():  # to JSON 5.0 and 5 are the same number
        delay_ms = int(delay_ms)
    if not isinstance(delay_ms, int) or isinstance(delay_ms, bool) or not 0 <= delay_ms <= DELAY_MS_MAX:
        raise InvalidTask(f"delay_ms has to be a whole number of ms from 0 to {DELAY_MS_MAX} (ten years).")
    return f"+{delay_ms}"


def due_at(execute_at: object) -> str:
    """What `Submission.due` is for a time with its zone, as a `datetime` or as RFC 3339 has it.

    Raises:
        InvalidTask: that is no such time.
    """
    try:
        time = msgspec.convert(execute_at, Annotated[datetime, msgspec.Meta(tz=True)], strict=True)
        return str(min(max(0, round(time.timestamp() * 1000)), TIME_MS_MAX))
    except (msgspec.ValidationError, ValueError, OverflowError):
        raise InvalidTask(
            "execute_at has to be a time with its zone, as RFC 3339 writes it: 2026-01-31T09:30:00Z."
        ) from None


class Submission(NamedTuple):
    """What somebody asks to have queued. `payload_json` is valid JSON text, carried byte for byte (I6).

    A named tuple, as is its answer: a batch makes thousands, and a frozen dataclass takes three times as long to make.
    """

    payload_json: str
    task_type: str = "default"
    task_id: str | None = None
    idempotency_key: str | None = None
    priority: str = "default"
    due: str = AT_ONCE  # when it is to run: at once, `+` and a delay in ms, or ms since the epoch
    trace_context: str = ""  # W3C's `traceparent`

    def digest(self) -> str:
        """What an idempotency key is bound to: type, payload, priority, schedule and a chosen id.

        White space and the order of names count nothing, nor does the trace context.
        """
        with turn_to_decode(len(self.payload_json)):
            meaning = [self.task_type, self.task_id, json.loads(self.payload_json, parse_float=_exactly)]
            if (self.priority, self.due) != ("default", AT_ONCE):
                meaning += [self.priority, self.due]
            return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


class Accepted(NamedTuple):
    """A promise. `replayed`: the idempotency key was known with this payload, and this is the first task's id."""

    task_id: str
    replayed: bool


Outcome = Accepted | QueueError
"""Of one task of a batch: a promise, or why there is none."""


class Enqueuer:
    """The producing side of the queue; safe to share between threads."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        self._client, self._config, self._keys = client, config, Keys(config.namespace)
        self._durability = Durability(config.durability, config.durability_timeout_ms)
        self._known = False  # that the queue speaks this protocol

    def enqueue_payload(self, payload: Any, *, task_type: str = "default") -> Accepted:
        """Enqueue a Python value; the short form of `enqueue` for use from code."""
        return self.enqueue(Submission(payload_json=json.dumps(payload, allow_nan=False), task_type=task_type))

    def enqueue(self, submission: Submission) -> Accepted:
        """Enqueue one task.

        Raises:
            TaskTooLarge, IdempotencyConflict, QueueFull, NotAccepted: it was not enqueued.
            OutcomeUnknown: nobody can say; ask again with the same idempotency key.
            NotConfirmed, one of these: Redis has it, and may lose it; ask again likewise.
        """
        outcome = self.enqueue_many([submission])[0]
        if isinstance(outcome, Accepted):
            return outcome
        raise outcome

    def enqueue_many(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Enqueue many in one atomic step; the outcomes are in the order of the submissions.

        Raises:
            QueueFull, NotAccepted: none was enqueued.
            OutcomeUnknown: either all that could be accepted were enqueued, or none.
        """
        keys = [*self._keys.waiting, self._keys.delayed, self._keys.counters]
        texts: list[bytes] = []
        accepted: list[Submission] = []
        guards: list[Any] = []  # what the script is told of each idempotency key
        guarded: list[tuple[int, str, str]] = []  # and whose answer it will be: place among the outcomes, id, key
        outcomes: list[Outcome] = []
        for submission, new_id in zip(submissions, new_task_ids(len(submissions)), strict=True):
            task_id = submission.task_id or new_id
            text = encode(task_id=task_id, task_type=submission.task_type, payload_json=submission.payload_json)
            if len(text) > self._config.max_task_bytes:
                outcomes.append(TaskTooLarge(len(text), self._config.max_task_bytes))
                continue
            texts.append(text)
            accepted.append(submission)
            if submission.idempotency_key is not None:
                keys.append(self._keys.idempotency(submission.idempotency_key))
                guards += (len(texts), submission.digest(), task_id)
                guarded.append((len(outcomes), task_id, submission.idempotency_key))
            outcomes.append(Accepted(task_id, replayed=False))
        if texts:
            limits = [self._config.max_pending, self._config.max_scheduled, self._config.idempotency_ttl_ms]
            lengths = " ".join([str(len(text)) for text in texts])
            priorities = "".join([PRIORITIES[submission.priority] for submission in accepted])
            due = [submission.due for submission in accepted]
            traces = [submission.trace_context or "-" for submission in accepted]
            rare = [" ".join(words) if any(word != "-" for word in words) else "" for words in (due, traces)]
            answers = self._push(keys, [*limits, lengths, b"".join(texts), priorities, *rare, *guards])
            for (place, task_id, key), answer in zip(guarded, answers, strict=True):
                outcomes[place] = _read_answer(answer, task_id, key)
        return outcomes

    def _push(self, keys: list[str], arguments: list[Any]) -> list[bytes]:
        answers: list[bytes]
        try:
            if not self._known:
                refuse_other_protocol(self._client, self._keys)
                self._known = True
            try:
                length, *answers = self._call(keys, arguments)
            except MovedError:  # a definite no, and the next connection leads to the slot's new owner
                length, *answers = self._call(keys, arguments)
        except OtherProtocol as error:
            raise NotAccepted(str(error)) from error
        except (NeverSent, redis.BusyLoadingError) as error:
            raise NotAccepted(f"Redis cannot be reached ({error}).") from error
        except redis.ResponseError as error:
            raise NotAccepted(f"Redis refused ({error}).") from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise (OutcomeUnknown if self._known else NotAccepted)(f"Redis did not answer ({error}).") from error
        if length != _PUSHED:
            what, limit = "pending", self._config.max_pending
            if answers == [b"delayed"]:
                what, limit = "scheduled", self._config.max_scheduled
            raise QueueFull(length, limit, what)
        return answers

    def _call(self, keys: list[str], arguments: list[Any]) -> Any:
        if self._durability.immediate:
            return _ENQUEUE(self._client, keys, arguments)
        with borrowed(self._client) as connection:  # one for both: a connection is told about its own writes only
            answer = _ENQUEUE.on(connection, keys, arguments)
            # Where the key of every task was used for another one, nothing is promised that could be confirmed.
            promised = len(arguments[5]) - answer[1:].count(_CONFLICT)
            if answer[0] == _PUSHED and promised:
                self._durability.confirm(connection)
            return answer


def _read_answer(answer: bytes, task_id: str, key: str) -> Accepted | IdempotencyConflict:
    if answer == b"":
        return Accepted(task_id, replayed=False)
    if answer == _CONFLICT:
        return IdempotencyConflict(key)
    return Accepted(answer.removeprefix(b"=").decode(), replayed=True)
