"""taskiq with the stream broker of taskiq-redis, its idle timeout shortened."""

from typing import ClassVar

from ..asynchronous import AsynchronousTarget
from ..target import Task
from . import pins


class TaskiqStream(AsynchronousTarget):
    """A message is acknowledged when its task has run; a dead worker's are claimed by the worker that reads a new one.

    At most a hundred for each that is read, and none as long as nothing new comes in.
    """

    name: ClassVar[str] = "taskiq-stream"
    requirements = pins.TASKIQ
    worker = (
        "taskiq",
        "worker",
        "--workers",
        "1",
        "--max-async-tasks",
        "4",
        "zeroloss.targets.taskiq_stream_app:broker",
    )
    recover_within = 15.0
    settings: ClassVar[str] = (
        "idle_timeout 5 s (default 600), unacknowledged_lock_timeout 5 s (default none); 1 process (default 2), "
        "4 tasks at a time (default 100)"
    )
    promise: ClassVar[str] = (
        "The stream broker supports acknowledgements, and is fine to use where data durability is required."
    )
    promise_url: ClassVar[str] = "https://github.com/taskiq-python/taskiq-redis#stream"

    async def connect(self) -> None:
        from .taskiq_stream_app import broker

        await broker.startup()

    async def send(self, task: Task) -> None:
        from .taskiq_stream_app import work

        await work.kiq(task.payload)
