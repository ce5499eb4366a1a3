"""The application of `taskiq-stream`, as both its worker and its producer import it."""

import asyncio
import os
from typing import Any

from taskiq_redis import RedisStreamBroker

from ..ledger import effect

broker = RedisStreamBroker(os.environ["REDIS_URL"], idle_timeout=5_000, unacknowledged_lock_timeout=5)


@broker.task
async def work(payload: dict[str, Any]) -> None:
    with effect(payload["id"], payload=payload):
        await asyncio.sleep(payload["work_ms"] / 1000)
