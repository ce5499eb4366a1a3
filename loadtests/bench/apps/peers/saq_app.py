"""SAQ, with retries: only a job with retries is put back after its worker was killed. Results are not kept."""

import os
from typing import Any

from mark import begun
from saq import Queue

queue = Queue.from_url(os.environ["REDIS_URL"])


async def work(_context: object, *, sent_ns: int, padding: str) -> None:
    begun(sent_ns)


settings = {"queue": queue, "functions": [work], "concurrency": 5}


async def session(drive: Any) -> None:
    await queue.connect()
    await drive(lambda sent_ns, padding: queue.enqueue("work", sent_ns=sent_ns, padding=padding, retries=3, ttl=-1))
    await queue.disconnect()
