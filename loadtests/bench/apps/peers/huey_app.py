"""Huey, which has no acknowledgements; its results are not kept."""

import os

from huey import RedisHuey
from mark import begun

huey = RedisHuey("bench", url=os.environ["REDIS_URL"], results=False)


@huey.task()
def work(sent_ns: int, padding: str) -> None:
    begun(sent_ns)


send = work
