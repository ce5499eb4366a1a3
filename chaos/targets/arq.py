"""arq, with its job timeout shortened."""

from typing import Any, ClassVar

from ..asynchronous import AsynchronousTarget
from ..target import Task
from . import pins


class Arq(AsynchronousTarget):
    """A job stays in the queue until it has ended; it is run again once the key that says it runs has expired."""

    name: ClassVar[str] = "arq"
    requirements = pins.ARQ
    worker = ("arq", "zeroloss.targets.arq_app.WorkerSettings")
    recover_within = 20.0
    settings: ClassVar[str] = (
        "job_timeout 5 s (default 300): a dead worker's job is run again after job_timeout and 10 s (default 310); "
        "max_jobs 4 (default 10)"
    )
    promise: ClassVar[str] = (
        "Pessimistic execution: a job is not removed from the queue until it has succeeded or failed, and may run "
        "more than once."
    )
    promise_url: ClassVar[str] = "https://arq-docs.helpmanual.io/"
    _pool: Any = None

    async def connect(self) -> None:
        from arq import create_pool
        from arq.connections import RedisSettings

        self._pool = self._pool or await create_pool(RedisSettings.from_dsn(self.redis_url))

    async def send(self, task: Task) -> None:
        # None means that the job exists already. arq also returns None if Redis restarted during the call.
        if await self._pool.enqueue_job("work", task.payload, _job_id=task.id) is None:
            raise RuntimeError("arq did not say whether the job is in the queue")
