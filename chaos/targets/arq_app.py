"""The worker of `arq`."""

import asyncio
import os
from typing import Any

from arq.connections import RedisSettings

from ..ledger import effect


async def work(_context: dict[str, Any], payload: dict[str, Any]) -> None:
    with effect(payload["id"], payload=payload):
        await asyncio.sleep(payload["work_ms"] / 1000)


class WorkerSettings:
    """Settings in the form that arq reads."""

    functions = [work]  # noqa: RUF012 - as arq's documentation has it
    redis_settings = RedisSettings.from_dsn(os.environ["REDIS_URL"])
    job_timeout = 5
    max_jobs = 4
