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
from redis.exceptions import AskError, MovedError, NoScriptError

from .config import Config
from .connection import LEADS_ASTRAY, NeverSent, Script, borrowed, refuse_client_of_shards, send
from .durability import Durability
from .errors import (
    IdempotencyConflict,
    InvalidTask,
    NotAccepted,
    NotConfirmed,
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
#       the epoch), then '' or the trace context of each ('-': none), how many tasks each request has, then for each
#       task with an idempotency key: its place (from 1), digest, id
# Returns the number of requests for which there is no room, for each its place (from 1), the length that it met, and
#         'pending' or 'delayed', and then an answer for each key: '' for a new task, '!' for a key used with another
#         request, else '=' and the id of the task that it repeats. Of a refused request these answers mean nothing.
# Each request is admitted by itself, whole or not at all, after those before it. A refused one leaves nothing behind,
# so that its keys stay unknown to those after it: a repetition must not be promised a task that was never pushed.
# The time in the header is that from which a task waits for a worker: where it is scheduled, when it is due.
# The JSON is one string, and a task without a key has no answer: what redis-py spends on each argument and on each
# part of a reply is more than all the rest that a small task costs.
# The counter is written even if nothing is new, so that a repeated request, too, has a write whose safety can be asked
# for: it comes after the one that it repeats.
# What is refused halfway is not undone. So the counter comes first, all lists are asked for their length, which none of
# another type tells, before anything is added to one, and it is asked whether what comes after that may be done.
# No allow-oom: where memory is short the server refuses the whole script, a definite no.
_ENQUEUE = Script(f"""#!lua
{NOW}{HEADER}{LISTS}{DELAY}
local known, answers, keys, refused = {{}}, {{}}, {{}}, {{}}
local guard, guarded = 10, tonumber(ARGV[10])
local function answer_of_guard()
  local key, digest, id = KEYS[(guard + 11) / 3], ARGV[guard + 1], ARGV[guard + 2]
  local seen = known[key] or redis.call('GET', key)
  guard = guard + 3
  guarded = tonumber(ARGV[guard])
  if seen then return string.sub(seen, 1, 64) == digest and '=' .. string.sub(seen, 65) or '!' end
  known[key] = digest .. id
  keys[#keys + 1] = key
  return ''
end
local lengths = string.gmatch(ARGV[4], '%d+')
local due = ARGV[7] ~= '' and string.gmatch(ARGV[7], '%S+')
local trace = ARGV[8] ~= '' and string.gmatch(ARGV[8], '%S+')
local batches, later, first, place = {{h = {{}}, d = {{}}, l = {{}}}}, {{}}, 1, 0
local since = string.format('%d', now)
local plain = ',1,0,0,' .. since .. ',0,'
local function take()
  place = place + 1
  local length = lengths()
  local text = string.sub(ARGV[5], first, first + length - 1)
  local at, context = due and due() or '-', trace and trace() or '-'
  first = first + length
  if guarded == place then
    local answer = answer_of_guard()
    answers[#answers + 1] = answer
    if answer ~= '' then return end
  end
  local priority = string.sub(ARGV[6], place, place)
  local tail = (context == '-' and '' or context) .. ';' .. text
  local time = at ~= '-' and (string.sub(at, 1, 1) == '+' and now + string.sub(at, 2) or tonumber(at))
  if time and time > now then
    later[#later + 1] = {{time, string.format('%s,1,0,0,%d,0,', priority, time) .. tail}}
  else
    local batch = batches[priority]
    batch[#batch + 1] = priority .. plain .. tail
  end
end
local function cut(list, length)
  for i = #list, length + 1, -1 do list[i] = nil end
end
local length, scheduled, waiting, requests, admitted = 0, nil, 0, 0, 0
for i = 2, 4 do length = length + redis.call('LLEN', KEYS[i]) end
for size in string.gmatch(ARGV[9], '%d+') do
  local h, d, l, delayed, new = #batches.h, #batches.d, #batches.l, #later, #keys
  for _ = 1, size do take() end
  requests = requests + 1
  local all = #batches.h + #batches.d + #batches.l
  local full = all > waiting and length + all > tonumber(ARGV[1]) and {{length + waiting, 'pending'}}
  if not full and #later > delayed then
    scheduled = scheduled or redis.call('ZCARD', KEYS[5])
    full = scheduled + #later > tonumber(ARGV[2]) and {{scheduled + delayed, 'delayed'}}
  end
  if full then
    refused[#refused + 1] = requests
    refused[#refused + 1] = full[1]
    refused[#refused + 1] = full[2]
    for i = new + 1, #keys do known[keys[i]] = nil end
    cut(batches.h, h)
    cut(batches.d, d)
    cut(batches.l, l)
    cut(later, delayed)
    cut(keys, new)
  else
    waiting = all
    admitted = admitted + 1
  end
end
local function reply()
  local parts = {{requests - admitted}}
  for _, part in ipairs(refused) do parts[#parts + 1] = part end
  for _, answer in ipairs(answers) do parts[#parts + 1] = answer end
  return parts
end
if admitted == 0 then return reply() end
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
return reply()
""")
_CONFLICT = b"!"
AT_ONCE = "-"
DELAY_MS_MAX = 10 * 366 * 86_400_000
TIME_MS_MAX = 99_999_999_999_999  # 14 digits, the year 5138


SENT_AT_ONCE_BYTES = 49_152  # what a socket takes at once, when nothing else is on its way
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
"""Of one task: a promise, or why there is none."""


class Enqueuer:
    """The producing side of the queue; safe to share between threads."""

    def __init__(self, client: redis.Redis, config: Config) -> None:
        """Raises ConfigError: the settings are those of several shards."""
        refuse_client_of_shards(client, config)
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
        (outcomes,) = self.enqueue_requests([submissions])
        if isinstance(outcomes, QueueError):
            raise outcomes
        return outcomes

    def enqueue_requests(self, requests: Sequence[Sequence[Submission]]) -> list[list[Outcome] | QueueError]:
        """Enqueue several requests in one call. Each is admitted by itself, as if it came after those before it.

        For each request its outcomes, or why none of it was promised: QueueFull, or NotConfirmed.

        Raises:
            NotAccepted: nothing of any request was enqueued.
            OutcomeUnknown: nobody can say it of any.
        """
        call = self._call(requests)
        if not call.texts:
            return list(call.outcomes)
        with self._errors():
            if not self._known:
                self._recognize()
                self._known = True
            try:
                return self._push(call)
            except MovedError:  # a definite no, and the next connection leads to the slot's new owner
                return self._push(call)

    def send_requests(self, requests: Sequence[Sequence[Submission]]) -> "Sent | None":
        """Send what `enqueue_requests` would, and leave the reply to be read when it is there.

        None: nothing was sent, since that cannot be done without waiting. So it is before the first call, where no
        connection is open, where more than Redis's answer is needed, and where the requests are large.

        Raises:
            OutcomeUnknown: nobody can say it of any.
        """
        pool: Any = self._client.connection_pool
        # Looked at first: a digest of a large payload waits for its turn.
        chars = sum(len(submission.payload_json) for submissions in requests for submission in submissions)
        if not self._known or not self._durability.immediate or chars > SENT_AT_ONCE_BYTES:
            return None
        call = self._call(requests)
        if not call.texts or sum(map(len, call.texts)) + 256 * len(call.keys) > SENT_AT_ONCE_BYTES:
            return None
        connection = pool.idle_connection()
        if connection is None:
            return None
        sent = Sent(call, connection, pool, self._errors)
        with self._errors(), sent.closing():
            send(connection, *self._script.command(call.keys, call.arguments()))
        return sent

    @property
    def _script(self) -> Script:
        return _ENQUEUE

    def _recognize(self) -> None:
        """Ask, before the first task, whether this is a queue to push to. Raises OtherProtocol."""
        refuse_other_protocol(self._client, self._keys)

    def _call(self, requests: Sequence[Sequence[Submission]]) -> "_Call":
        call = _Call(self._keys, self._config)
        for submissions in requests:
            call.add(submissions)
        return call

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Redis's errors as this module's."""
        try:
            yield
        except OtherProtocol as error:
            raise NotAccepted(str(error)) from error
        except (NeverSent, redis.BusyLoadingError) as error:
            raise NotAccepted(f"Redis cannot be reached ({error}).") from error
        except AskError as error:  # whose text is the slot and the other node
            raise NotAccepted(f"Redis refused, as the slot of this queue is on its way ({error}).") from error
        except redis.ResponseError as error:
            raise NotAccepted(f"Redis refused ({error}).") from error
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise (OutcomeUnknown if self._known else NotAccepted)(f"Redis did not answer ({error}).") from error

    def _push(self, call: "_Call") -> list[list[Outcome] | QueueError]:
        if self._durability.immediate:
            return call.read(self._script(self._client, call.keys, call.arguments()))
        with borrowed(self._client) as connection:  # one for both: a connection is told about its own writes only
            answers = call.read(self._script.on(connection, call.keys, call.arguments()))
            promised = [place for place, outcomes in enumerate(answers) if _promises(outcomes)]
            if promised:
                try:
                    self._durability.confirm(connection)
                except NotConfirmed as error:
                    for place in promised:
                        answers[place] = error
            return answers


class Sent:
    """Requests that Redis has been sent: `receive` their answers once `descriptor` is readable, or `give_up`."""

    def __init__(self, call: "_Call", connection: Any, pool: Any, errors: Any) -> None:
        self._call, self._connection, self._pool, self._errors = call, connection, pool, errors
        self.descriptor: int = connection._sock.fileno()

    def receive(self) -> list[list[Outcome] | QueueError] | None:
        """As `enqueue_requests`; None: Redis does not know the script, or the slot has moved, and it did nothing."""
        with self._errors(), self.closing():
            try:
                reply = self._connection.read_response()
            except NoScriptError:
                reply = None
            except MovedError:
                self._connection.disconnect()  # the next one leads to the slot's new owner
                reply = None
        self._pool.release(self._connection)
        return None if reply is None else self._call.read(reply)

    def give_up(self, reason: str) -> OutcomeUnknown:
        """Close the connection, on which the reply may still come."""
        self._connection.disconnect()
        self._pool.release(self._connection)
        return OutcomeUnknown(f"Redis did not answer ({reason}).")

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Return the connection where what is done within fails."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, redis.ResponseError) or isinstance(error, LEADS_ASTRAY):
                self._connection.disconnect()
            self._pool.release(self._connection)
            raise


class _Call:
    """Requests on their way to the script, and its answers on their way back to them."""

    def __init__(self, keys: Keys, config: Config) -> None:
        self._idempotency, self._config = keys.idempotency, config
        self.max_pending = config.max_pending
        self.keys = [*keys.waiting, keys.delayed, keys.counters]
        self.texts: list[bytes] = []
        self.outcomes: list[list[Outcome]] = []  # of each request, as they are if Redis accepts it
        self._accepted: list[Submission] = []
        self._sizes: list[int] = []  # how many tasks of each request the script is given
        self._guards: list[Any] = []  # what the script is told of each idempotency key
        self._guarded: list[tuple[list[Outcome], int, str, str]] = []  # and whose answer it will be: where, id, key
        self.further: list[str] = []  # what a script that does more than this one is told

    def add(self, submissions: Sequence[Submission]) -> None:
        outcomes: list[Outcome] = []
        before = len(self.texts)
        for submission, new_id in zip(submissions, new_task_ids(len(submissions)), strict=True):
            task_id = submission.task_id or new_id
            text = encode(task_id=task_id, task_type=submission.task_type, payload_json=submission.payload_json)
            if len(text) > self._config.max_task_bytes:
                outcomes.append(TaskTooLarge(len(text), self._config.max_task_bytes))
                continue
            self.texts.append(text)
            self._accepted.append(submission)
            if submission.idempotency_key is not None:
                self.keys.append(self._idempotency(submission.idempotency_key))
                self._guards += (len(self.texts), submission.digest(), task_id)
                self._guarded.append((outcomes, len(outcomes), task_id, submission.idempotency_key))
            outcomes.append(Accepted(task_id, replayed=False))
        self._sizes.append(len(self.texts) - before)
        self.outcomes.append(outcomes)

    def arguments(self) -> list[Any]:
        """ARGV of the script."""
        limits = [self.max_pending, self._config.max_scheduled, self._config.idempotency_ttl_ms]
        lengths = " ".join([str(len(text)) for text in self.texts])
        priorities = "".join([PRIORITIES[submission.priority] for submission in self._accepted])
        due = [submission.due for submission in self._accepted]
        traces = [submission.trace_context or "-" for submission in self._accepted]
        rare = [" ".join(words) if any(word != "-" for word in words) else "" for words in (due, traces)]
        sizes = " ".join(map(str, self._sizes))
        return [*limits, lengths, b"".join(self.texts), priorities, *rare, sizes, *self._guards, *self.further]

    def read(self, reply: list[Any]) -> list[list[Outcome] | QueueError]:
        """What the script's reply means for each request."""
        end = 1 + 3 * reply[0]
        for (outcomes, place, task_id, key), answer in zip(self._guarded, reply[end:], strict=True):
            outcomes[place] = _read_answer(answer, task_id, key)
        answers: list[list[Outcome] | QueueError] = list(self.outcomes)
        for request, length, what in zip(*[iter(reply[1:end])] * 3, strict=True):
            if what == b"pending":
                answers[request - 1] = QueueFull(length, self.max_pending)
            else:
                answers[request - 1] = QueueFull(length, self._config.max_scheduled, "scheduled")
        return answers


def _promises(outcomes: list[Outcome] | QueueError) -> bool:
    return isinstance(outcomes, list) and any(isinstance(outcome, Accepted) for outcome in outcomes)


def _read_answer(answer: bytes, task_id: str, key: str) -> Accepted | IdempotencyConflict:
    if answer == b"":
        return Accepted(task_id, replayed=False)
    if answer == _CONFLICT:
        return IdempotencyConflict(key)
    return Accepted(answer.removeprefix(b"=").decode(), replayed=True)
