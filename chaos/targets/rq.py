"""RQ as shipped, with shorter waits: the default worker, which forks for every job, and no Retry."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

from ..target import Found, Target, Task
from . import pins


class Rq(Target):
    """A killed worker's job is not run again, but moved to the failed jobs once a worker looks."""

    name: ClassVar[str] = "rq"
    requirements = pins.RQ
    worker = (
        *("rq", "worker", "--config", "zeroloss.targets.rq_app", "--maintenance-interval", "5"),
        *("--job-monitoring-interval", "2", "--worker-ttl", "20"),
        *("--queue-class", "zeroloss.targets.rq_app.ShortLock", "zeroloss"),
    )
    workers = 6
    # A heartbeat is valid for the monitoring interval plus a minute, which no option shortens. A job that was taken and
    # not begun may have one, too. After its end the job is left for a minute from when a worker first saw it.
    recover_within = 140.0
    settings: ClassVar[str] = (
        "--job-monitoring-interval 2 s (default 30), --maintenance-interval 5 s (default 600), --worker-ttl 20 s "
        "(default 420): a job is given up 62 s after its last heartbeat (default 90), once a worker that is between "
        "two jobs, or has waited for one for 5 s (default 405), looks (every 5 s; default 600); what was taken and not "
        "begun, a minute later; a worker that ends while it looks keeps the others from looking for 20 s, by a queue "
        "class (899, no option)"
    )
    promise: ClassVar[str] = "Every job that does not execute successfully is kept in the FailedJobRegistry."
    promise_url: ClassVar[str] = "https://python-rq.org/docs/exceptions"

    @cached_property
    def queue(self) -> Any:
        from redis import Redis
        from rq import Queue

        return Queue("zeroloss", connection=Redis.from_url(self.redis_url))

    def enqueue(self, task: Task) -> None:
        self.queue.enqueue("zeroloss.targets.rq_app.work", task.payload, job_id=task.id, **self._retry())

    def census(self) -> Iterator[Found]:
        for job in self.queue.get_job_ids():
            yield Found(job, "pending")
        for job in self.queue.intermediate_queue.get_job_ids():  # taken by a worker, and not begun
            yield Found(job, "processing")
        for job in self.queue.started_job_registry.get_job_ids(cleanup=False):
            yield Found(job, "processing")
        for job in self.queue.scheduled_job_registry.get_job_ids(cleanup=False):
            yield Found(job, "delayed")
        for job in self.queue.failed_job_registry.get_job_ids(cleanup=False):
            yield Found(job, "failed", "in RQ's FailedJobRegistry")

    def _retry(self) -> dict[str, Any]:
        return {}
