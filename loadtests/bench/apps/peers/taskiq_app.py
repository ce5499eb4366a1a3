"""taskiq with the stream broker, which acknowledges."""

import os
from typing import Any

from mark import begun
from taskiq_redis import RedisStreamBroker

broker = RedisStreamBroker(os.environ["REDIS_URL"], unacknowledged_lock_timeout=5)


@broker.task
async def work(sent_ns: int, padding: str) -> None:
    begun(sent_ns)


async def session(drive: Any) -> None:
    await broker.startup()
    await drive(work.kiq)
    await broker.shutdown()
