"""Group commit with shards: each has a group of its own, so that one that hangs delays no task but its own."""

import asyncio
from collections.abc import Sequence

from ..queue.config import Config
from ..queue.enqueuing.submission import Outcome, Submission
from ..queue.errors import NotAccepted, OutcomeUnknown, QueueError, QueueFull
from ..shards.spread import Part, Spread, joined
from .group_commit import GroupCommit


class ShardedGroupCommit:
    """Splits a request as `Spread` does, and pushes each part with those of other requests. For one event loop."""

    def __init__(self, config: Config, timeout_s: float) -> None:
        self._spread = Spread(config)
        self._groups = {shard: GroupCommit(shard, timeout_s) for shard in self._spread.shards}

    async def enqueue(self, submissions: Sequence[Submission]) -> list[Outcome]:
        """Enqueue the tasks of one request; the outcomes are in their order.

        Raises:
            QueueFull, NotAccepted: none was enqueued.
            OutcomeUnknown: there was one part, and nobody can say.
        """
        parts = self._spread.split(submissions)
        answers = await asyncio.gather(*[self._answer(part) for part in parts])
        outcomes = joined(parts, answers)
        if isinstance(outcomes, QueueError):
            raise outcomes
        return outcomes

    async def _answer(self, part: Part) -> list[Outcome] | QueueError:
        """As `Spread` does it, by the shards' groups."""
        refusal: QueueError = NotAccepted("There are no shards.")
        for shard in part.order:
            try:
                return await self._groups[shard].enqueue(part.submissions)
            except (QueueFull, NotAccepted, OutcomeUnknown) as error:
                refusal = error
                if not shard.refused(error):
                    break
        return refusal
