"""Huey on Redis, as shipped: the consumer's default worker threads, no retries."""

from typing import ClassVar

from ..target import Target, Task
from . import pins


class Huey(Target):
    """A task is taken off the list before it runs, and is then in its consumer's memory and nowhere else."""

    name: ClassVar[str] = "huey"
    requirements = pins.HUEY
    worker = ("huey_consumer", "zeroloss.targets.huey_app.huey", "--workers", "2")
    recover_within = 2.0
    settings: ClassVar[str] = "as shipped, with 2 worker threads instead of 1"
    promise: ClassVar[str] = "Interrupts running tasks on SIGTERM; a task interrupted by SIGKILL is lost."
    promise_url: ClassVar[str] = "https://huey.readthedocs.io/en/latest/deployment.html"

    def enqueue(self, task: Task) -> None:
        from .huey_app import work

        work(task.payload)
