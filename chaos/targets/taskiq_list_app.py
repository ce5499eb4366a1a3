"""The application of `taskiq-list`, as both its worker and its producer import it."""

import asyncio
import os
from typing import Any

from taskiq_redis import ListQueueBroker

from ..ledger import effect

broker = ListQueueBroker(os.environ["REDIS_URL"])


@broker.task
async def work(payload: dict[str, Any]) -> None:
    with effect(payload["id"], payload=payload):
        await asyncio.sleep(payload["work_ms"] / 1000)
