"""Targets that a new user may write in the first hour, each with a mistake or without an optional part."""

import asyncio
import json
import sys
import time
from pathlib import Path

import redis
from zeroloss.asynchronous import AsynchronousTarget
from zeroloss.target import Found, Target, Task
from zeroloss.targets.pushed_json import PushedJson

FOLDER = Path(__file__).parent
INSTANT = """
import json, os, redis
from zeroloss.ledger import effect
client = redis.Redis.from_url(os.environ["REDIS_URL"])
while True:
    if popped := client.brpop(["pending"], timeout=1):
        task = json.loads(popped[1])
        with effect(task["id"], payload=task):
            pass
"""


class Instant(Target):
    """Its task bodies end at once."""

    worker = (sys.executable, "-c", INSTANT)
    workers = 1
    recover_within = 0.2

    def enqueue(self, task: Task) -> None:
        redis.Redis.from_url(self.redis_url).lpush("pending", json.dumps(task.payload))


class Hangs(Instant):
    """Its `enqueue` never returns."""

    def enqueue(self, task: Task) -> None:
        time.sleep(3600)


class Asyncio(AsynchronousTarget):
    """Its client is an asyncio client."""

    worker = Instant.worker
    workers = 1
    recover_within = 0.2

    async def connect(self) -> None:
        self.client = redis.asyncio.Redis.from_url(self.redis_url)
        self.loop = asyncio.get_running_loop()

    async def send(self, task: Task) -> None:
        assert asyncio.get_running_loop() is self.loop
        await self.client.lpush("pending", json.dumps(task.payload))  # type: ignore[misc]


class KeepsRecords(Target):
    """Gives up on its first job and keeps the record under a separate key: only `census()` could report it."""

    worker = (sys.executable, str(FOLDER / "lazy_worker.py"), "record")
    workers = 1
    recover_within = 0.2

    def enqueue(self, task: Task) -> None:
        redis.Redis.from_url(self.redis_url).lpush("pending", json.dumps(task.payload))


class Sweeps(KeepsRecords):
    """`KeepsRecords` with a census that reports the records."""

    def census(self) -> list[Found]:
        client = redis.Redis.from_url(self.redis_url)
        return [Found(key.decode().removeprefix("job:"), "failed", "swept") for key in client.scan_iter("job:*")]


class DiesBetweenLremAndRpush(PushedJson):
    """Loses one task: its worker dies between removing the task and putting it back."""

    worker = (sys.executable, str(FOLDER / "retrying_worker.py"))
    workers = 1
