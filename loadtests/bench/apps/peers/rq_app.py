"""RQ, with retries: only a job with retries is put back after its worker was killed. Results are not kept."""

import os

import rq
from mark import begun
from redis import Redis

queue = rq.Queue(connection=Redis.from_url(os.environ["REDIS_URL"]))


def work(sent_ns: int, padding: str) -> None:
    begun(sent_ns)


def send(sent_ns: int, padding: str) -> None:
    queue.enqueue(work, sent_ns, padding, result_ttl=0, retry=rq.Retry(max=3))
