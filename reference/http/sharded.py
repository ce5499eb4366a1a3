"""Group commit with shards: each shard has its own group, so that a shard that hangs delays only its own tasks."""

import asyncio
from collections.abc import Sequence

from ..queue.config import Config
from ..queue.enqueuing.submission import Outcome, Submission
from ..queue.errors import NotAccepted, OutcomeUnknown, QueueError, QueueFull
from ..shards.spread import AGAIN_MAX, Part, Shard, Spread, joined, outdated, renewed
from .group_commit import GroupCommit


class ShardedGroupCommit:
    """Splits a request as `Spread` does, and pushes each part with parts of other requests. For one event loop."""

    def __init__(self, config: Config, timeout_s: float) -> None:
        self._spread, self._timeout_s = Spread(config), timeout_s
        self._groups: dict[Shard, GroupCommit] = {}

    async def enqueue(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Enqueue the tasks of one request; the outcomes are in their order.

        Raises:
            QueueFull, NotAccepted: no task was enqueued.
            OutcomeUnknown: the request went to one shard, and whether that accepted it is unknown.
        """
        outcomes = await self._assign(submissions)
        for _ in range(AGAIN_MAX):
            late = outdated(submissions, outcomes)
            if not late:
                break
            outcomes = renewed(outcomes, late, await self._assign([submissions[place] for place in late]))
        if isinstance(outcomes, QueueError):
            raise outcomes
        return outcomes

    async def _assign(self, submissions: Sequence[Submission]) -> list[Outcome] | QueueError:
        """Split the request, and push its parts to their shards at the same time."""
        if self._spread.splits_at_once(submissions):
            parts = self._spread.split(submissions)
        else:
            parts = await asyncio.to_thread(self._spread.split, submissions)
        for shard in {shard for part in parts for shard in part.order} - self._groups.keys():
            self._groups[shard] = GroupCommit(shard, self._timeout_s)
        return joined(parts, await asyncio.gather(*[self._answer(part) for part in parts]))

    async def _answer(self, part: Part) -> list[Outcome] | QueueError:
        """Push one part by the groups of its shards, in the order in which `Spread` tries them."""
        refusal: QueueError = NotAccepted("There are no shards.")
        for shard in part.order:
            try:
                return await self._groups[shard].enqueue(part.submissions)
            except (QueueFull, NotAccepted, OutcomeUnknown) as error:
                refusal = error
                if not shard.refused(error):
                    break
        return refusal
