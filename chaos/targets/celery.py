"""Celery on Redis, as shipped: acknowledged before it runs, four tasks prefetched for each process."""

from typing import ClassVar

from ..target import Target, Task
from . import pins


class Celery(Target):
    """What ran when its worker died is gone; what was prefetched is hidden for the visibility timeout, an hour."""

    name: ClassVar[str] = "celery"
    requirements = pins.CELERY
    worker = ("celery", "--app", "zeroloss.targets.celery_app", "worker", "--concurrency", "2")
    recover_within = 10.0
    settings: ClassVar[str] = (
        "as shipped, with 2 processes; the visibility timeout stays at its default of 3600 s, and the run waits 10 s: "
        "what Celery hides for longer is STUCK here"
    )
    promise: ClassVar[str] = (
        "Early acknowledgement by default: a task is not redelivered if its worker is killed in mid-execution."
    )
    promise_url: ClassVar[str] = "https://docs.celeryq.dev/en/stable/glossary.html"

    def enqueue(self, task: Task) -> None:
        from .celery_app import work

        work.delay(task.payload)
