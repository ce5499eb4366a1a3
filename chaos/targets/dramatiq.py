"""Dramatiq on Redis."""

from typing import ClassVar

from ..target import Target, Task
from . import pins


class Dramatiq(Target):
    """Acknowledged when it has run; a worker without a heartbeat loses its messages to the others, if they look."""

    name: ClassVar[str] = "dramatiq"
    requirements = pins.DRAMATIQ
    worker = ("dramatiq", "--processes", "1", "--threads", "4", "zeroloss.targets.dramatiq_app")
    recover_within = 15.0
    settings: ClassVar[str] = (
        "heartbeat_timeout 5 s (default 60), maintenance_chance 20000 (default 1000 of a million commands); "
        "retries after at least 0.1 s (default 15); 1 process, 4 threads"
    )
    promise: ClassVar[str] = (
        "Messages are only acknowledged after they have been processed; those of a worker that goes down will "
        "eventually be redelivered."
    )
    promise_url: ClassVar[str] = "https://dramatiq.io/advanced.html#message-persistence"

    def enqueue(self, task: Task) -> None:
        from .dramatiq_app import work

        work.send(task.payload)
