"""Spreads tasks over the shards, with the methods of an `Enqueuer`.

A task with an idempotency key always belongs to the shard of its key, even if that shard is down. Any shard may take a
task without a key: they take turns, and a shard that refuses is tried last for a moment. A task that was sent to a
shard without an answer is never sent to another one: it may have been accepted.

After a change of the number of shards, a key may belong to another shard than before. Each shard refuses requests that
were assigned by another layout than it stores, in the step that would accept them. So once a key's previous shard
stores the new layout, it accepts only new keys of its own. While it may remember older keys, it is asked for them
first: it answers for a key that it knows, and every other key goes to its present shard (I8).
"""

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import redis

from ..queue.config import Config
from ..queue.connection import Script, connect
from ..queue.enqueuer import Enqueuer
from ..queue.enqueuing.push import ENQUEUE
from ..queue.enqueuing.submission import Outcome, Submission
from ..queue.errors import NotAccepted, OtherProtocol, OutcomeUnknown, QueueError, QueueFull
from .layout import ShardsChanged, shard_config, shard_of, shards_key
from .members import Shards, together

REST_S = 1.0  # how long a shard that refused is tried last
TOGETHER = 100  # minimum of a batch's tasks without a key that go to one shard
AGAIN_MAX = 3  # limit on how often a request is assigned again
OUTDATED = "LAYOUT"  # the first word of the scripts' refusal of another layout

# KEYS  the KEYS of the script that follows, then shards
# ARGV  the ARGV of the script that follows, then the layout by which the caller has assigned the keys (a text, not a
#       number), and the places in KEYS of idempotency keys that belong to another shard by this layout
# Refuses if another layout is stored, or one of these keys is unknown: its present shard must accept it.
_FENCE = f"""
do
  local noted = string.match(redis.call('GET', KEYS[#KEYS]) or '', '^%d+ %d+ %d+')
  if noted ~= ARGV[#ARGV - 1] then return redis.error_reply('{OUTDATED} of this shard: ' .. (noted or 'none')) end
  for place in string.gmatch(ARGV[#ARGV], '%d+') do
    if not redis.call('GET', KEYS[tonumber(place)]) then return redis.error_reply('{OUTDATED}: a key is forgotten') end
  end
end
"""

# KEYS  idempotency keys, then shards
# ARGV  see _FENCE
# Returns 1 for each known key, and 0 for each unknown one
_KNOWN = Script(f"""#!lua flags=no-writes
{_FENCE}
local known = {{}}
for i = 1, #KEYS - 1 do known[i] = redis.call('GET', KEYS[i]) and 1 or 0 end
return known
""")


_FLAGS, _, _ACCEPTED = ENQUEUE.source.partition("\n")
FENCED_ENQUEUE = Script(f"{_FLAGS}{_FENCE}{_ACCEPTED}")
"""`ENQUEUE` after `_FENCE`, whose KEYS and ARGV follow those of `ENQUEUE`."""


class Shard(Enqueuer):
    """The producing side of one shard."""

    def __init__(self, number: int, shards: Shards) -> None:
        self.number, self._shards = number, shards
        self.config = shard_config(shards.config, number)
        self.client = connect(self.config)
        self.resting_until = 0.0  # monotonic, s: until then it is tried last
        super().__init__(self.client, self.config)
        self._noted = shards_key(self.config)

    def rest(self) -> None:
        """Let this shard be tried last for a moment, unless only the number of shards has changed."""
        if not self._shards.doubted:
            self.resting_until = time.monotonic() + REST_S

    def refused(self, error: QueueError) -> bool:
        """Rest after an error. Return whether another shard may be tried, as certainly nothing was accepted."""
        self.rest()
        return isinstance(error, QueueFull | NotAccepted)

    def knows(self, keys: Sequence[str]) -> list[bool]:
        """Return for each idempotency key whether this shard may know it: True, too, if it does not answer."""
        names = [*map(self._keys.idempotency, keys), self._noted]
        try:
            return [bool(known) for known in _KNOWN(self.client, names, [self._shards.layout.text(), ""])]
        except redis.ResponseError as error:
            self._shards.doubted |= str(error).startswith(OUTDATED)
        except redis.RedisError:
            self.rest()
        return [True] * len(keys)

    @property
    def _script(self) -> Script:
        return FENCED_ENQUEUE

    def _call(self, requests: Sequence[Sequence[Submission]]) -> Any:
        call, layout = super()._call(requests), self._shards.layout
        first = self._keys.idempotency("")
        elsewhere = [
            place
            for place, name in enumerate(call.keys, start=1)
            if name.startswith(first) and shard_of(name.removeprefix(first), layout.count) != self.number
        ]
        call.keys.append(self._noted)
        call.further = [layout.text(), " ".join(map(str, elsewhere))]
        return call

    @contextmanager
    def _errors(self) -> Iterator[None]:
        with super()._errors():
            try:
                yield
            except redis.ResponseError as error:
                if not str(error).startswith(OUTDATED):
                    raise
                self._shards.doubted = True
                raise ShardsChanged(f"the number of shards has changed ({error})") from error


class Part(NamedTuple):
    """The part of one request that goes to one shard."""

    order: list[Shard]  # the shards that may take it, in the order in which they are tried
    places: list[int]  # of the tasks in the request
    submissions: list[Submission]


class Spread(Enqueuer):
    """The producing side of all shards; safe to share between threads."""

    def __init__(self, config: Config) -> None:
        self.members = Shards(config)
        self._made: dict[int, Shard] = {}
        self._turns = itertools.count(random.randrange(config.shards))

    def enqueue_requests(self, requests: Sequence[Sequence[Submission]]) -> list[list[Outcome] | QueueError]:
        """Enqueue several requests. Each shard takes its part of a request in one atomic step.

        Return for each request its outcomes, in its order, or the error by which no task of it is promised: QueueFull,
        NotAccepted, or, for a request with one part, OutcomeUnknown. If a shard refuses one of several parts, or does
        not answer, this error is the outcome of each task of the part.

        Raises:
            NotAccepted: this process was started with another number of shards.
        """
        answers = self._assign(requests)
        for place, submissions in enumerate(requests):
            for _ in range(AGAIN_MAX):
                late = outdated(submissions, answers[place])
                if not late:
                    break
                answers[place] = renewed(answers[place], late, self._assign([[submissions[each] for each in late]])[0])
        return answers

    def send_requests(self, requests: Sequence[Sequence[Submission]]) -> None:
        """Send nothing: a caller that must not wait uses the shards one by one."""

    def close(self) -> None:
        """Close the connections to all shards."""
        for shard in list(self._made.values()):
            shard.client.close()
        self.members.close()

    def splits_at_once(self, submissions: Sequence[Submission]) -> bool:
        """Whether the tasks can be assigned to shards without asking a shard first."""
        if self.members.doubted:
            return False
        keyed = any(submission.idempotency_key is not None for submission in submissions)
        return not keyed or not any(map(self._is_asked, range(self.members.layout.before)))

    def split(self, submissions: Sequence[Submission]) -> list[Part]:
        """Split a request into parts, by shard.

        Raises:
            NotAccepted: this process was started with another number of shards.
        """
        if self.members.doubted:
            try:
                self.members.agree()
            except OtherProtocol as error:
                raise NotAccepted(str(error)) from error
        layout = self.members.layout
        free = [place for place, submission in enumerate(submissions) if submission.idempotency_key is None]
        size = max(TOGETHER, -(-len(free) // layout.count))
        orders = [([self._shard(number)], places) for number, places in self._by_key(submissions).items()]
        orders += [(self._in_turn(), free[first : first + size]) for first in range(0, len(free), size)]
        return [Part(order, places, [submissions[place] for place in places]) for order, places in orders]

    def _assign(self, requests: Sequence[Sequence[Submission]]) -> list[list[Outcome] | QueueError]:
        """Split the requests, and push all parts to their shards at the same time."""
        split = [self.split(submissions) for submissions in requests]
        parts = [part for each in split for part in each]
        answers = iter(together(_answer, parts))
        return [joined(each, [next(answers) for _ in each]) for each in split]

    def _by_key(self, submissions: Sequence[Submission]) -> dict[int, list[int]]:
        """Return the places of tasks with a key, by shard: the key's previous shard if that knows it, else its own."""
        layout = self.members.layout
        homes: dict[int, list[int]] = {}
        before: dict[int, list[tuple[int, str]]] = {}
        for place, submission in enumerate(submissions):
            key = submission.idempotency_key
            if key is None:
                continue
            home, earlier = shard_of(key, layout.count), shard_of(key, layout.before)
            if home != earlier and self._is_asked(earlier):
                before.setdefault(earlier, []).append((place, key))
            else:
                homes.setdefault(home, []).append(place)
        for earlier, asked in before.items():
            for (place, key), known in zip(asked, self._shard(earlier).knows([key for _, key in asked]), strict=True):
                homes.setdefault(earlier if known else shard_of(key, layout.count), []).append(place)
        return {number: sorted(places) for number, places in homes.items()}

    def _is_asked(self, number: int) -> bool:
        """Whether a shard may remember keys that belong to another shard now."""
        layout = self.members.layout
        return layout.before != layout.count and number < layout.before and self.members.remembers(number)

    def _shard(self, number: int) -> Shard:
        if number not in self._made:
            self._made[number] = Shard(number, self.members)
        return self._made[number]

    def _in_turn(self) -> list[Shard]:
        present = [self._shard(number) for number in range(self.members.layout.count)]
        first = next(self._turns) % len(present)
        order = [*present[first:], *present[:first]]
        now = time.monotonic()
        return sorted(order, key=lambda shard: shard.resting_until > now)


def joined(parts: Sequence[Part], answers: Sequence[list[Outcome] | QueueError]) -> list[Outcome] | QueueError:
    """Join the answers to the parts of a request: its outcomes, in its order, or the error if no task is promised."""
    if len(parts) == 1:
        return answers[0]
    refusals = [answer for answer in answers if isinstance(answer, QueueFull | NotAccepted)]
    if refusals and len(refusals) == len(answers):
        return refusals[0]
    outcomes: dict[int, Outcome] = {}
    for part, answer in zip(parts, answers, strict=True):
        each = answer if isinstance(answer, list) else [answer] * len(part.places)
        outcomes.update(zip(part.places, each, strict=True))
    return [outcomes[place] for place in range(len(outcomes))]


def outdated(submissions: Sequence[Submission], answer: list[Outcome] | QueueError) -> list[int]:
    """Return the places of the tasks that must be assigned again, as the number of shards has changed."""
    each = answer if isinstance(answer, list) else [answer] * len(submissions)
    return [place for place, outcome in enumerate(each) if isinstance(outcome, ShardsChanged)]


def renewed(
    answer: list[Outcome] | QueueError, places: Sequence[int], again: list[Outcome] | QueueError
) -> list[Outcome] | QueueError:
    """Merge into the answer to a request the new outcomes of the tasks at these places, which were assigned again."""
    if not isinstance(answer, list):  # all tasks were assigned again
        return again
    outcomes = dict(zip(places, again if isinstance(again, list) else [again] * len(places), strict=True))
    return [outcomes.get(place, outcome) for place, outcome in enumerate(answer)]


def _answer(part: Part) -> list[Outcome] | QueueError:
    """Push one part; return the answer of the first shard that does not refuse, else the last refusal."""
    refusal: QueueError = NotAccepted("There are no shards.")
    for shard in part.order:
        try:
            return shard.enqueue_many(part.submissions)
        except (QueueFull, NotAccepted, OutcomeUnknown) as error:
            refusal = error
            if not shard.refused(error):
                break
    return refusal
