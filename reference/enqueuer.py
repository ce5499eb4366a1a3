"""Enqueue: from "somebody asks" to "promised".

A task is promised when Redis has acknowledged it, and it is as safe as `durability` asks, and only then. Guard (I8),
bound and push are one atomic step.
"""

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from .config import Config
from .connection import NeverSent, Script, borrowed
from .durability import Durability
from .errors import IdempotencyConflict, NotAccepted, OutcomeUnknown, QueueFull, TaskTooLarge
from .keys import Keys
from .task import encode, new_task_id

# KEYS  pending, counters, then the idempotency keys
# ARGV  max_pending, idempotency_ttl_ms, then for each task: which idempotency key (0: none), digest, id, element
# Returns {0, length} when the queue is too full for all of the new ones, and nothing was done; else {1, answers}: ''
#         for a new task, '!' for a key used with another payload, else '=' and the id of the task it repeats.
# The counter is written even if nothing is new, so that a repeated request, too, has a write whose safety can be asked
# for: it comes after the one that it repeats.
# No allow-oom: where memory is short the server refuses the whole script, a definite no.
_ENQUEUE = Script("""#!lua
local known, answers, new, keys = {}, {}, {}, {}
for i = 3, #ARGV, 4 do
  local key, digest, id = KEYS[2 + tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]
  local answer = ''
  if ARGV[i] ~= '0' then
    local seen = known[key] or redis.call('GET', key)
    if seen then
      answer = string.sub(seen, 1, 64) == digest and '=' .. string.sub(seen, 65) or '!'
    else
      known[key] = digest .. id
      keys[#keys + 1] = key
    end
  end
  if answer == '' then new[#new + 1] = ARGV[i + 3] end
  answers[#answers + 1] = answer
end
local length = redis.call('LLEN', KEYS[1])
if #new > 0 and length + #new > tonumber(ARGV[1]) then return {0, length} end
for first = 1, #new, 1000 do
  redis.call('LPUSH', KEYS[1], unpack(new, first, math.min(first + 999, #new)))
end
for _, key in ipairs(keys) do redis.call('SET', key, known[key], 'PX', ARGV[2]) end
redis.call('HINCRBY', KEYS[2], 'enqueued', #new)
return {1, answers}
""")


def _exactly(number: str) -> list[Any]:
    """A fraction by its text: as a float it would equal others (0.1, 0.10000000000000000001). NaN is in no payload."""
    return [math.nan, number]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What somebody asks to have queued. `payload_json` is valid JSON text, carried byte for byte (I6)."""

    payload_json: str
    task_type: str = "default"
    task_id: str | None = None
    idempotency_key: str | None = None

    def digest(self) -> str:
        """What an idempotency key is bound to: type, payload and a chosen id; not white space or the order of names."""
        meaning = [self.task_type, self.task_id, json.loads(self.payload_json, parse_float=_exactly)]
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Accepted:
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
        arguments: list[Any] = [self._config.max_pending, self._config.idempotency_ttl_ms]
        outcomes: list[Any] = []  # an id stands for a task whose answer is to come
        for submission in submissions:
            task_id = submission.task_id or new_task_id()
            element = encode(
                task_id=task_id,
                task_type=submission.task_type,
                payload_json=submission.payload_json,
                created_at=created_at,
            )
            if len(element) > self._config.max_task_bytes:
                outcomes.append(TaskTooLarge(len(element), self._config.max_task_bytes))
                continue
            if submission.idempotency_key is None:
                arguments += (0, "", "", element)
            else:
                keys.append(self._keys.idempotency(submission.idempotency_key))
                arguments += (len(keys) - 2, submission.digest(), task_id, element)
            outcomes.append(task_id)
        answers = iter(self._push(keys, arguments))
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, str):
                outcomes[index] = _read_answer(next(answers), outcome, submissions[index].idempotency_key)
        return outcomes

    def _push(self, keys: list[str], arguments: list[Any]) -> list[bytes]:
        if len(arguments) == 2:
            return []
        try:
            accepted, result = self._call(keys, arguments)
        except (NeverSent, redis.BusyLoadingError) as error:
            raise NotAccepted(f"Redis cannot be reached ({error}).") from error
        except redis.ResponseError as error:
            raise NotAccepted(f"Redis refused ({error}).") from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise OutcomeUnknown(f"Redis did not answer ({error}).") from error
        if not accepted:
            raise QueueFull(result, self._config.max_pending)
        return list(result)

    def _call(self, keys: list[str], arguments: list[Any]) -> Any:
        if self._durability.immediate:
            return _ENQUEUE(self._client, keys, arguments)
        with borrowed(self._client) as connection:  # one for both: a connection is told about its own writes only
            answer = _ENQUEUE.on(connection, keys, arguments)
            if answer[0]:
                self._durability.confirm(connection)
            return answer


def _read_answer(answer: bytes, task_id: str, key: str | None) -> Accepted | IdempotencyConflict:
    if answer == b"":
        return Accepted(task_id, replayed=False)
    if answer == b"!":
        return IdempotencyConflict(key or "")
    return Accepted(answer.removeprefix(b"=").decode(), replayed=True)
