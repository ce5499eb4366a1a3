"""docket: its worker is started from here, as its command line accepts no times below a second."""

import asyncio
import os
from datetime import timedelta
from typing import Any

from docket import Docket, Worker
from mark import begun


async def work(sent_ns: int, padding: str) -> None:
    begun(sent_ns)


def docket() -> Docket:
    found = Docket(name="bench", url=os.environ["REDIS_URL"], execution_ttl=timedelta(0))
    found.register(work)
    return found


async def session(drive: Any) -> None:
    async with docket() as client:
        await drive(lambda sent_ns, padding: client.add(work)(sent_ns, padding))


async def main() -> None:
    # By default a worker whose slots are all taken checks for a free slot four times a second.
    often = timedelta(milliseconds=1)
    async with docket() as served, Worker(served, concurrency=5, minimum_check_interval=often) as worker:
        await worker.run_forever()


if __name__ == "__main__":
    asyncio.run(main())
