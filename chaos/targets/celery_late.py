"""Celery on Redis as its documentation advises where no task may be lost: acknowledged late."""

from typing import ClassVar

from ..target import Task
from .celery import Celery


class CeleryLate(Celery):
    """A task is acknowledged when it has run; a dead worker's come back after the visibility timeout.

    Not those that it had taken off the list (BRPOP) and not yet noted as unacknowledged, which is a second step.
    """

    name: ClassVar[str] = "celery-late"
    worker = ("celery", "--app", "zeroloss.targets.celery_late_app", "worker", "--concurrency", "2")
    recover_within = 15.0
    settings: ClassVar[str] = (
        "task_acks_late and task_reject_on_worker_lost on (default off); visibility_timeout 5 s (default 3600), "
        "looked after every second (default: every tenth look of one in 10 s); 2 processes"
    )
    promise: ClassVar[str] = (
        "Late acknowledgement: a task is redelivered to another worker if its worker is killed in mid-execution."
    )

    def enqueue(self, task: Task) -> None:
        from .celery_late_app import work

        work.delay(task.payload)
