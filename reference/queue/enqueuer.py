"""Enqueue: from "somebody asks" to "promised".

A task is promised when Redis has acknowledged it, and it is as safe as `durability` asks, and only then. Guard (I8),
bound and push are one atomic step.
"""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import redis

from .config import Config
from .connection import NeverSent, Script, borrowed
from .durability import Durability
from .errors import IdempotencyConflict, NotAccepted, OutcomeUnknown, QueueFull, TaskTooLarge
from .keys import Keys
from .task import encode, new_task_ids
from .turns import turn_to_decode

# KEYS  pending, counters, then the idempotency key of each task that has one
# ARGV  max_pending, idempotency_ttl_ms, the lengths of the elements, the elements in one string, then for each task
#       with an idempotency key: its place among the elements (from 1), digest, id
# Returns {length} when the queue is too full for all of the new ones, and nothing was done; else -1 and an answer for
#         each key: '' for a new task, '!' for a key used with another payload, else '=' and the id of the task it
#         repeats.
# Elements are one string, and a task without a key has no answer: what redis-py spends on each argument and on each
# part of a reply is more than all the rest that a small task costs.
# The counter is written even if nothing is new, so that a repeated request, too, has a write whose safety can be asked
# for: it comes after the one that it repeats.
# What is refused halfway is not undone: the counter comes first, and SET, which must follow the push, is asked for.
# No allow-oom: where memory is short the server refuses the whole script, a definite no.
_ENQUEUE = Script("""#!lua
local elements, first = {}, 1
for length in string.gmatch(ARGV[3], '%d+') do
  elements[#elements + 1] = string.sub(ARGV[4], first, first + length - 1)
  first = first + length
end
local known, answers, new, keys = {}, {-1}, {}, {}
for i = 5, #ARGV, 3 do
  local key, digest, id, answer = KEYS[(i + 4) / 3], ARGV[i + 1], ARGV[i + 2], ''
  local seen = known[key] or redis.call('GET', key)
  if seen then
    answer = string.sub(seen, 1, 64) == digest and '=' .. string.sub(seen, 65) or '!'
    elements[tonumber(ARGV[i])] = false
  else
    known[key] = digest .. id
    keys[#keys + 1] = key
  end
  answers[#answers + 1] = answer
end
for _, element in ipairs(elements) do
  if element then new[#new + 1] = element end
end
local length = redis.call('LLEN', KEYS[1])
if #new > 0 and length + #new > tonumber(ARGV[1]) then return {length} end
if #keys > 0 and not redis.acl_check_cmd('SET', keys[1], '', 'PX', ARGV[2]) then
  return redis.error_reply('NOPERM an idempotency key may not be SET')
end
redis.call('HINCRBY', KEYS[2], 'enqueued', #new)
for first = 1, #new, 1000 do
  redis.call('LPUSH', KEYS[1], unpack(new, first, math.min(first + 999, #new)))
end
for _, key in ipairs(keys) do redis.call('SET', key, known[key], 'PX', ARGV[2]) end
return answers
""")
_PUSHED = -1  # what it returns first, where it did its work
_CONFLICT = b"!"


def _exactly(number: str) -> list[Any]:
    """A fraction by its text: as a float it would equal others (0.1, 0.10000000000000000001). NaN is in no payload."""
    return [math.nan, number]


class Submission(NamedTuple):
    """What somebody asks to have queued. `payload_json` is valid JSON text, carried byte for byte (I6).

    A named tuple, as is its answer: a batch makes thousands, and a frozen dataclass takes three times as long to make.
    """

    payload_json: str
    task_type: str = "default"
    task_id: str | None = None
    idempotency_key: str | None = None

    def digest(self) -> str:
        """What an idempotency key is bound to: type, payload and a chosen id; not white space or the order of names."""
        with turn_to_decode(len(self.payload_json)):
            meaning = [self.task_type, self.task_id, json.loads(self.payload_json, parse_float=_exactly)]
            return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


class Accepted(NamedTuple):
    """A promise. `replayed`: the idempotency key was known with this payload, and this is the first task's id."""

    task_id: str
    replayed: bool


class Enqueuer:
    """The producing side of the queue; safe to share between threads."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        self._client, self._config, self._keys = client, config, Keys(config.namespace)
        self._durability = Durability(config.durability, config.durability_timeout_ms)

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

    def enqueue_many(self, submissions: Sequence[Submission]) -> list[Accepted | TaskTooLarge | IdempotencyConflict]:
        """Enqueue many in one atomic step; the outcomes are in the order of the submissions.

        Raises:
            QueueFull, NotAccepted: none was enqueued.
            OutcomeUnknown: either all that could be accepted were enqueued, or none.
        """
        created_at = time.time_ns() // 1_000_000
        keys = [self._keys.pending, self._keys.counters]
        elements: list[bytes] = []
        guards: list[Any] = []  # what the script is told of each idempotency key
        guarded: list[tuple[int, str, str]] = []  # and whose answer it will be: place among the outcomes, id, key
        outcomes: list[Accepted | TaskTooLarge | IdempotencyConflict] = []
        for submission, new_id in zip(submissions, new_task_ids(len(submissions)), strict=True):
            payload_json, task_type, chosen_id, key = submission
            task_id = chosen_id or new_id
            element = encode(task_id=task_id, task_type=task_type, payload_json=payload_json, created_at=created_at)
            if len(element) > self._config.max_task_bytes:
                outcomes.append(TaskTooLarge(len(element), self._config.max_task_bytes))
                continue
            elements.append(element)
            if key is not None:
                keys.append(self._keys.idempotency(key))
                guards += (len(elements), submission.digest(), task_id)
                guarded.append((len(outcomes), task_id, key))
            outcomes.append(Accepted(task_id, replayed=False))
        if elements:
            lengths = " ".join([str(len(element)) for element in elements])
            limits = [self._config.max_pending, self._config.idempotency_ttl_ms]
            answers = self._push(keys, [*limits, lengths, b"".join(elements), *guards])
            for (place, task_id, key), answer in zip(guarded, answers, strict=True):
                outcomes[place] = _read_answer(answer, task_id, key)
        return outcomes

    def _push(self, keys: list[str], arguments: list[Any]) -> list[bytes]:
        answers: list[bytes]
        try:
            length, *answers = self._call(keys, arguments)
        except (NeverSent, redis.BusyLoadingError) as error:
            raise NotAccepted(f"Redis cannot be reached ({error}).") from error
        except redis.ResponseError as error:
            raise NotAccepted(f"Redis refused ({error}).") from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise OutcomeUnknown(f"Redis did not answer ({error}).") from error
        if length != _PUSHED:
            raise QueueFull(length, self._config.max_pending)
        return answers

    def _call(self, keys: list[str], arguments: list[Any]) -> Any:
        if self._durability.immediate:
            return _ENQUEUE(self._client, keys, arguments)
        with borrowed(self._client) as connection:  # one for both: a connection is told about its own writes only
            answer = _ENQUEUE.on(connection, keys, arguments)
            # Where the key of every task was used for another one, nothing is promised that could be confirmed.
            promised = arguments[2].count(" ") + 1 - answer[1:].count(_CONFLICT)
            if answer[0] == _PUSHED and promised:
                self._durability.confirm(connection)
            return answer


def _read_answer(answer: bytes, task_id: str, key: str) -> Accepted | IdempotencyConflict:
    if answer == b"":
        return Accepted(task_id, replayed=False)
    if answer == _CONFLICT:
        return IdempotencyConflict(key)
    return Accepted(answer.removeprefix(b"=").decode(), replayed=True)
