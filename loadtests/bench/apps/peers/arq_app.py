"""arq, with a shorter poll interval than its default: half a second's wait would dominate the measurement."""

import os
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from mark import begun

SETTINGS = RedisSettings.from_dsn(os.environ["REDIS_URL"])


async def work(_context: object, sent_ns: int, padding: str) -> None:
    begun(sent_ns)


class WorkerSettings:
    """The settings of the worker, in arq's form."""

    functions = (work,)
    redis_settings = SETTINGS
    max_jobs = 5
    poll_delay = 0.01
    keep_result = 0


async def session(drive: Any) -> None:
    pool = await create_pool(SETTINGS)
    await drive(lambda sent_ns, padding: pool.enqueue_job("work", sent_ns, padding))
