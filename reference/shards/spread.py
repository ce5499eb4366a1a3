"""Spreads tasks over the shards, with the verbs of an `Enqueuer`.

A task with an idempotency key belongs to the shard of its key, whatever becomes of that shard. Every other task may go
to any: they take turns, and a shard that refuses is passed over for a moment. What was sent to a shard that gave no
answer is never sent to another one: it may have been accepted.
"""

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import redis

from ..queue.config import Config
from ..queue.connection import NeverSent, connect
from ..queue.enqueuer import Enqueuer, Outcome, Submission
from ..queue.errors import NotAccepted, OtherProtocol, OutcomeUnknown, QueueFull
from .layout import refuse_other_count, shard_configs, shard_of

REST_S = 1.0  # a shard that refused is asked last for so long
TOGETHER = 100  # tasks without a key of one batch that go to one shard, at least


class Shard:
    """One shard as producers see it."""

    def __init__(self, config: Config, count: int) -> None:
        self.config, self._count = config, count
        self.client = connect(config)
        self._enqueuer = Enqueuer(self.client, config)
        self._known = False  # that it is one of so many
        self.resting_until = 0.0  # monotonic, s

    def enqueue_many(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Raises QueueFull, NotAccepted or OutcomeUnknown, as `Enqueuer.enqueue_many` does."""
        try:
            if not self._known:
                self._agree()
            return self._enqueuer.enqueue_many(submissions)
        except (NotAccepted, QueueFull, OutcomeUnknown):
            self.resting_until = time.monotonic() + REST_S
            raise

    def _agree(self) -> None:
        try:
            refuse_other_count(self.client, self.config, self._count)
        except (OtherProtocol, NeverSent, redis.RedisError) as error:  # nothing was pushed yet
            raise NotAccepted(str(error)) from error
        self._known = True


class Spread(Enqueuer):
    """The producing side of all shards; safe to share between threads."""

    def __init__(self, config: Config) -> None:
        self.shards = [Shard(each, config.shards) for each in shard_configs(config)]
        self._turns = itertools.count(random.randrange(config.shards))

    def enqueue_many(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Enqueue many, each shard's part in one atomic step; the outcomes are in the order of the submissions.

        A part that a shard refused, or did not answer, has this error as the outcome of each of its tasks.

        Raises:
            QueueFull, NotAccepted: none was enqueued.
            OutcomeUnknown: there was one part, and nobody can say.
        """
        parts = list(self._split(submissions))
        work = [(order, [submissions[place] for place in places]) for order, places in parts]
        if len(work) == 1:
            return _first(*work[0])
        if not work:
            return []
        with ThreadPoolExecutor(len(work)) as threads:
            answers = list(threads.map(lambda part: _answer(*part), work))
        refusals = [answer for answer in answers if isinstance(answer, QueueFull | NotAccepted)]
        if len(refusals) == len(answers):
            raise refusals[0]
        outcomes: dict[int, Outcome] = {}
        for (_, places), answer in zip(parts, answers, strict=True):
            each = answer if isinstance(answer, list) else [answer] * len(places)
            outcomes.update(zip(places, each, strict=True))
        return [outcomes[place] for place in range(len(submissions))]

    def close(self) -> None:
        """Close the connections to all shards."""
        for shard in self.shards:
            shard.client.close()

    def _split(self, submissions: Sequence[Submission]) -> Iterator[tuple[list[Shard], list[int]]]:
        """The parts of a batch: the shards that may take each, in the order in which they are tried, and its places."""
        keyed: dict[int, list[int]] = {}
        free: list[int] = []
        for place, submission in enumerate(submissions):
            if submission.idempotency_key is None:
                free.append(place)
            else:
                keyed.setdefault(shard_of(submission.idempotency_key, len(self.shards)), []).append(place)
        for number, places in keyed.items():
            yield [self.shards[number]], places
        size = max(TOGETHER, -(-len(free) // len(self.shards)))
        for first in range(0, len(free), size):
            yield self._in_turn(), free[first : first + size]

    def _in_turn(self) -> list[Shard]:
        first = next(self._turns) % len(self.shards)
        order = [*self.shards[first:], *self.shards[:first]]
        now = time.monotonic()
        return sorted(order, key=lambda shard: shard.resting_until > now)


def _first(order: Sequence[Shard], submissions: Sequence[Submission]) -> list[Outcome]:
    """What the first shard answers that does not refuse; else the refusal of the last."""
    for shard in order[:-1]:
        try:
            return shard.enqueue_many(submissions)
        except (QueueFull, NotAccepted):  # a definite no, so that it may go elsewhere
            continue
    return order[-1].enqueue_many(submissions)


def _answer(
    order: Sequence[Shard], submissions: Sequence[Submission]
) -> list[Outcome] | QueueFull | NotAccepted | OutcomeUnknown:
    try:
        return _first(order, submissions)
    except (QueueFull, NotAccepted, OutcomeUnknown) as error:
        return error
