"""Spreads tasks over the shards, with the verbs of an `Enqueuer`.

A task with an idempotency key belongs to the shard of its key, whatever becomes of that shard. Every other task may go
to any: they take turns, and a shard that refuses is passed over for a moment. What was sent to a shard that gave no
answer is never sent to another one: it may have been accepted.

Where the number of shards was changed, a key may belong to another shard than before. Each shard refuses requests that
were assigned by another number than it has noted, in the step that would accept them. So once the shard of before has
noted the new number it accepts no new key that is not its own, and while it may remember old ones it is asked for them
first: what it knows is answered by it, all else goes to the present shard (I8).
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

REST_S = 1.0  # a shard that refused is asked last for that long
TOGETHER = 100  # tasks without a key of one batch that go to one shard, at least
AGAIN_MAX = 3  # a request is assigned again so often
OUTDATED = "LAYOUT"  # how the scripts' refusal of another layout begins

# KEYS  whatever a script is given, then shards
# ARGV  whatever it is given, then the layout by which the caller has assigned the keys, which is not a number, and
#       the places among KEYS of those that belong to another shard by this layout
# Refuses where another layout is noted, or one of these keys is not known: the present shard is to accept it.
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
# Returns for each key whether it is known
_KNOWN = Script(f"""#!lua flags=no-writes
{_FENCE}
local known = {{}}
for i = 1, #KEYS - 1 do known[i] = redis.call('GET', KEYS[i]) and 1 or 0 end
return known
""")


_FLAGS, _, _ACCEPTED = ENQUEUE.source.partition("\n")
FENCED_ENQUEUE = Script(f"{_FLAGS}{_FENCE}{_ACCEPTED}")
"""`ENQUEUE`, with `_FENCE` before what it does and behind its keys and arguments."""


class Shard(Enqueuer):
    """One shard as producers see it."""

    def __init__(self, number: int, shards: Shards) -> None:
        self.number, self._shards = number, shards
        self.config = shard_config(shards.config, number)
        self.client = connect(self.config)
        self.resting_until = 0.0  # monotonic, s: until then it is asked last
        super().__init__(self.client, self.config)
        self._noted = shards_key(self.config)

    def rest(self) -> None:
        """Be asked last for a moment, unless all that is wrong is that the number of shards has changed."""
        if not self._shards.doubted:
            self.resting_until = time.monotonic() + REST_S

    def refused(self, error: QueueError) -> bool:
        """Rest. Whether another shard may be asked, as this was a definite no."""
        self.rest()
        return isinstance(error, QueueFull | NotAccepted)

    def knows(self, keys: Sequence[str]) -> list[bool]:
        """Of each idempotency key whether this shard may know it; where it does not say so, it may."""
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
    """What of one request goes to one shard."""

    order: list[Shard]  # those that may take it, in the order in which they are tried
    places: list[int]  # in the request
    submissions: list[Submission]


class Spread(Enqueuer):
    """The producing side of all shards; safe to share between threads."""

    def __init__(self, config: Config) -> None:
        self.members = Shards(config)
        self._made: dict[int, Shard] = {}
        self._turns = itertools.count(random.randrange(config.shards))

    def enqueue_requests(self, requests: Sequence[Sequence[Submission]]) -> list[list[Outcome] | QueueError]:
        """Enqueue several requests, each shard's part of each in one atomic step.

        For each request its outcomes, in its order, or why none of it was promised: QueueFull, NotAccepted, or, where
        it was one part, OutcomeUnknown. A part that a shard refused, or did not answer, has this error as the outcome
        of each of its tasks.

        Raises:
            NotAccepted: there are others than this process was started with.
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
        """Nothing is sent: who will not wait takes the shards one by one."""

    def close(self) -> None:
        """Close the connections to all shards."""
        for shard in self._made.values():
            shard.client.close()

    def splits_at_once(self, submissions: Sequence[Submission]) -> bool:
        """Whether no shard must be asked where these belong."""
        if self.members.doubted:
            return False
        keyed = any(submission.idempotency_key is not None for submission in submissions)
        return not keyed or not any(map(self._is_asked, range(self.members.layout.before)))

    def split(self, submissions: Sequence[Submission]) -> list[Part]:
        """The parts of a request, by shard.

        Raises:
            NotAccepted: there are others than this process was started with.
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
        """Split each, and ask the shards at once."""
        split = [self.split(submissions) for submissions in requests]
        parts = [part for each in split for part in each]
        answers = iter(together(_answer, parts))
        return [joined(each, [next(answers) for _ in each]) for each in split]

    def _by_key(self, submissions: Sequence[Submission]) -> dict[int, list[int]]:
        """The places of the tasks with a key, by shard: the one of before, where that knows the key."""
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
        """Whether a shard may remember keys that belong to another one now."""
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
    """The outcomes of a request, in its order, from what became of its parts; why none of it was promised."""
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
    """The places of the tasks that are to be assigned again, since the number of shards has changed."""
    each = answer if isinstance(answer, list) else [answer] * len(submissions)
    return [place for place, outcome in enumerate(each) if isinstance(outcome, ShardsChanged)]


def renewed(
    answer: list[Outcome] | QueueError, places: Sequence[int], again: list[Outcome] | QueueError
) -> list[Outcome] | QueueError:
    """The answer to a request of which the tasks at these places were assigned again."""
    if not isinstance(answer, list):  # these are all
        return again
    outcomes = dict(zip(places, again if isinstance(again, list) else [again] * len(places), strict=True))
    return [outcomes.get(place, outcome) for place, outcome in enumerate(answer)]


def _answer(part: Part) -> list[Outcome] | QueueError:
    """What the first shard answers that does not refuse; else the refusal of the last."""
    refusal: QueueError = NotAccepted("There are no shards.")
    for shard in part.order:
        try:
            return shard.enqueue_many(part.submissions)
        except (QueueFull, NotAccepted, OutcomeUnknown) as error:
            refusal = error
            if not shard.refused(error):
                break
    return refusal
