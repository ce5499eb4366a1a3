"""streaq; its results are not kept."""

import os
from typing import Any

from mark import begun
from streaq import Worker

worker = Worker(redis_url=os.environ["REDIS_URL"], concurrency=5)


@worker.task(ttl=0)
async def work(sent_ns: int, padding: str) -> None:
    begun(sent_ns)


async def session(drive: Any) -> None:
    async with worker:
        await drive(work.enqueue)
