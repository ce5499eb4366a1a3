"""The script that enqueues: several requests in one step, each admitted separately."""

from collections.abc import Sequence
from typing import Any

from ..config import Config
from ..connection import Script
from ..errors import IdempotencyConflict, QueueError, QueueFull, TaskTooLarge
from ..keys import Keys
from ..lua import DELAY, HEADER, LISTS, NOW
from ..task import PRIORITIES, encode, new_task_ids
from .submission import Accepted, Outcome, Submission

# KEYS  the bell and the three lists, delayed, counters, then the idempotency key of each task that has one
# ARGV  max_pending, max_scheduled, idempotency_ttl_ms, the lengths of the tasks' JSON, this JSON in one string, the
#       letters of the tasks' priorities, then '' or the due time of each task ('-', '+' and a delay in ms, or ms since
#       the epoch), then '' or the trace context of each task ('-': none), the number of tasks of each request, then
#       for each task with an idempotency key: its place (from 1), digest, id
# Returns the number of requests for which there is no room, for each its place (from 1), the length of the queue at
#         that point, and 'pending' or 'delayed', and then an answer for each key: '' for a new task, '!' for a key used
#         with another request, else '=' and the id of the original task. Ignore the answers of a refused request.
# Each request is admitted whole or not at all, after the requests before it. A refused request leaves nothing behind,
# and later requests do not see its keys: a repetition must not be promised a task that was never pushed.
# The time in the header is when a task begins to wait for a worker: now, or its due time if it is scheduled.
# The JSON is one string, and a task without a key has no answer: what redis-py spends on each argument and on each
# part of a reply is more than all other costs of a small task.
# The counter is written even if nothing is new. So a repeated request also makes a write, later than the original's,
# whose durability can be confirmed.
# Redis does not undo a script that fails halfway. So the script first asks each list for its length, which fails for a
# key of another type, and checks that the ACL allows the later writes. The first write is that of the counter.
# No allow-oom: if memory is short the server refuses the whole script before it begins.
ENQUEUE = Script(f"""#!lua
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


class Call:
    """Converts requests to the script's arguments, and its reply to their outcomes."""

    def __init__(self, keys: Keys, config: Config, requests: Sequence[Sequence[Submission]]) -> None:
        self._idempotency, self._config = keys.idempotency, config
        self.max_pending = config.max_pending
        self.keys = [*keys.waiting, keys.delayed, keys.counters]
        self.texts: list[bytes] = []
        self.outcomes: list[list[Outcome]] = []  # by request, as they will be if Redis accepts it
        self._accepted: list[Submission] = []
        self._sizes: list[int] = []  # by request, the number of tasks that the script gets
        self.further: list[str] = []  # more arguments, for a script that extends this one
        self._guards: list[Any] = []  # for each idempotency key: the task's place, digest, id
        self._guarded: list[tuple[list[Outcome], int, str]] = []  # for each, where its answer belongs, and the key
        for submissions in requests:
            self._add(submissions)

    def _add(self, submissions: Sequence[Submission]) -> None:
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
                self._guarded.append((outcomes, len(outcomes), submission.idempotency_key))
            outcomes.append(Accepted(task_id, replayed=False))
        self._sizes.append(len(self.texts) - before)
        self.outcomes.append(outcomes)

    def arguments(self) -> list[Any]:
        """Return the script's ARGV."""
        limits = [self.max_pending, self._config.max_scheduled, self._config.idempotency_ttl_ms]
        lengths = " ".join([str(len(text)) for text in self.texts])
        priorities = "".join([PRIORITIES[submission.priority] for submission in self._accepted])
        due = [submission.due for submission in self._accepted]
        traces = [submission.trace_context or "-" for submission in self._accepted]
        rare = [" ".join(words) if any(word != "-" for word in words) else "" for words in (due, traces)]
        sizes = " ".join(map(str, self._sizes))
        return [*limits, lengths, b"".join(self.texts), priorities, *rare, sizes, *self._guards, *self.further]

    def read(self, reply: list[Any]) -> list[list[Outcome] | QueueError]:
        """Return the outcomes of each request, or its error, from the script's reply."""
        end = 1 + 3 * reply[0]
        for (outcomes, place, key), answer in zip(self._guarded, reply[end:], strict=True):
            if answer == b"!":
                outcomes[place] = IdempotencyConflict(key)
            elif answer:
                outcomes[place] = Accepted(answer.removeprefix(b"=").decode(), replayed=True)
        answers: list[list[Outcome] | QueueError] = list(self.outcomes)
        for request, length, what in zip(*[iter(reply[1:end])] * 3, strict=True):
            if what == b"pending":
                answers[request - 1] = QueueFull(length, self.max_pending)
            else:
                answers[request - 1] = QueueFull(length, self._config.max_scheduled, "scheduled")
        return answers
