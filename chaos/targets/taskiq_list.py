"""taskiq with the list broker of taskiq-redis, as shipped."""

from typing import ClassVar

from ..asynchronous import AsynchronousTarget
from ..target import Task
from . import pins


class TaskiqList(AsynchronousTarget):
    """A task is taken by BRPOP, and is then in its worker's memory and nowhere else."""

    name: ClassVar[str] = "taskiq-list"
    requirements = pins.TASKIQ
    worker = ("taskiq", "worker", "--workers", "1", "--max-async-tasks", "4", "zeroloss.targets.taskiq_list_app:broker")
    recover_within = 2.0
    settings: ClassVar[str] = "as shipped, with 1 process (default 2) and 4 tasks at a time (default 100)"
    promise: ClassVar[str] = (
        "The list broker has no acknowledgements: if a worker is suddenly killed, its message is lost."
    )
    promise_url: ClassVar[str] = "https://github.com/taskiq-python/taskiq-redis#listqueue"

    async def connect(self) -> None:
        from .taskiq_list_app import broker

        await broker.startup()

    async def send(self, task: Task) -> None:
        from .taskiq_list_app import work

        await work.kiq(task.payload)
