"""Stores the outcomes that need a command for each task: a retry, or a dead letter.

Redis may refuse one of them for long, as with a dead-letter key of another type or a missing permission. Then the
worker goes on with its other tasks, and tries this one again later.
"""

import logging
from collections.abc import Callable

import redis

from ..queue.connection import LEADS_ASTRAY
from ..queue.consumer import Consumer
from ..queue.consuming.settling import Claimed
from ..queue.errors import LeaseLost
from ..queue.task import Task
from .delivery import Delivery
from .journal import Journal

logger = logging.getLogger(__name__)


class Outcomes:
    """The failed and the unrunnable tasks of one consumer. Raises errors that concern the connection."""

    def __init__(self, consumer: Consumer, journal: Journal) -> None:
        self._consumer, self._journal = consumer, journal

    def fail(self, delivery: Delivery) -> bool:
        """Let a failed task be retried or dead-lettered (I5). Return False if Redis refuses to store this."""
        task, error = delivery.task, delivery.error or ""

        def store() -> None:
            retried = self._consumer.fail(task, error, delivery.traceback, delivery.config, delivery.after_ms)
            self._journal.failed(delivery, retried)

        return _is_stored(store, f"store the failure of task {task.shown_id}")

    def give_up(self, claimed: Claimed, reason: str, task: Task | None = None) -> bool:
        """Dead-letter an entry that cannot run here. Return False if Redis refuses."""

        def store() -> None:
            self._consumer.dead_letter(claimed, reason, **({"task_id": task.id} if task else {}))
            self._journal.given_up(task, reason)

        return _is_stored(store, f"dead-letter {f'task {task.shown_id}' if task else 'an entry'} ({reason})")


def _is_stored(store: Callable[[], None], what: str) -> bool:
    """Store an outcome, unless the task was recovered by others. Return False if Redis refuses."""
    try:
        store()
    except LeaseLost as lost:
        logger.warning("%s", lost)
    except redis.ResponseError as refusal:
        if isinstance(refusal, LEADS_ASTRAY):
            raise
        logger.error("Redis refuses to %s: %s", what, refusal)
        return False
    return True
