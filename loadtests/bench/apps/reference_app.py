"""zeroloss: its worker imports this as `--app`."""

import os

from mark import begun
from zeroloss.reference import Config, Task, handler
from zeroloss.reference.queue.connection import connect
from zeroloss.reference.queue.enqueuer import Enqueuer

config = Config(redis_url=os.environ["REDIS_URL"])
enqueuer = Enqueuer(connect(config), config)


@handler("bench")
def work(task: Task) -> None:
    begun(task.payload[0])


def send(sent_ns: int, padding: str) -> None:
    enqueuer.enqueue_payload([sent_ns, padding], task_type="bench")
