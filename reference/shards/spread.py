"""Spreads tasks over the shards, with the verbs of an `Enqueuer`.

A task with an idempotency key belongs to the shard of its key, whatever becomes of that shard. Every other task may go
to any: they take turns, and a shard that refuses is passed over for a moment. What was sent to a shard that gave no
answer is never sent to another one: it may have been accepted.
"""

import itertools
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from ..queue.config import Config
from ..queue.connection import connect
from ..queue.enqueuer import Enqueuer
from ..queue.enqueuing.submission import Outcome, Submission
from ..queue.errors import NotAccepted, OutcomeUnknown, QueueError, QueueFull
from .layout import refuse_other_count, shard_configs, shard_of

REST_S = 1.0  # a shard that refused is asked last for that long
TOGETHER = 100  # tasks without a key of one batch that go to one shard, at least


class Shard(Enqueuer):
    """One shard as producers see it."""

    def __init__(self, config: Config, count: int) -> None:
        self.client, self.config, self._count = connect(config), config, count
        self.resting_until = 0.0  # monotonic, s: until then it is asked last
        super().__init__(self.client, config)

    def refused(self, error: QueueError) -> bool:
        """Be asked last for a moment. Whether another shard may be asked, as this was a definite no."""
        self.resting_until = time.monotonic() + REST_S
        return isinstance(error, QueueFull | NotAccepted)

    def _recognize(self) -> None:
        super()._recognize()
        refuse_other_count(self.client, self.config, self._count)


class Part(NamedTuple):
    """What of one request goes to one shard."""

    order: list[Shard]  # those that may take it, in the order in which they are tried
    places: list[int]  # in the request
    submissions: list[Submission]


class Spread(Enqueuer):
    """The producing side of all shards; safe to share between threads."""

    def __init__(self, config: Config) -> None:
        self.shards = [Shard(each, config.shards) for each in shard_configs(config)]
        self._turns = itertools.count(random.randrange(config.shards))

    def enqueue_requests(self, requests: Sequence[Sequence[Submission]]) -> list[list[Outcome] | QueueError]:
        """Enqueue several requests, each shard's part of each in one atomic step.

        For each request its outcomes, in its order, or why none of it was promised: QueueFull, NotAccepted, or, where
        it was one part, OutcomeUnknown. A part that a shard refused, or did not answer, has this error as the outcome
        of each of its tasks.
        """
        split = [self.split(submissions) for submissions in requests]
        parts = [part for each in split for part in each]
        if len(parts) < 2:
            answers = iter([_answer(part) for part in parts])
        else:
            with ThreadPoolExecutor(min(len(parts), len(self.shards))) as threads:
                answers = iter(list(threads.map(_answer, parts)))
        return [joined(each, [next(answers) for _ in each]) for each in split]

    def send_requests(self, requests: Sequence[Sequence[Submission]]) -> None:
        """Nothing is sent: a caller that will not wait takes the shards one by one."""

    def close(self) -> None:
        """Close the connections to all shards."""
        for shard in self.shards:
            shard.client.close()

    def split(self, submissions: Sequence[Submission]) -> list[Part]:
        """The parts of a request, by shard."""
        keyed: dict[int, list[int]] = {}
        free: list[int] = []
        for place, submission in enumerate(submissions):
            if submission.idempotency_key is None:
                free.append(place)
            else:
                keyed.setdefault(shard_of(submission.idempotency_key, len(self.shards)), []).append(place)
        size = max(TOGETHER, -(-len(free) // len(self.shards)))
        orders = [([self.shards[number]], places) for number, places in keyed.items()]
        orders += [(self._in_turn(), free[first : first + size]) for first in range(0, len(free), size)]
        return [Part(order, places, [submissions[place] for place in places]) for order, places in orders]

    def _in_turn(self) -> list[Shard]:
        first = next(self._turns) % len(self.shards)
        order = [*self.shards[first:], *self.shards[:first]]
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
