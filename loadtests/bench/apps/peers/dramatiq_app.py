"""Dramatiq."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from mark import begun

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"]))


@dramatiq.actor
def work(sent_ns: int, padding: str) -> None:
    begun(sent_ns)


send = work.send
