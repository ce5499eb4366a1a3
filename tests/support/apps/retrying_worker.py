"""A worker that fails each task once and requeues it by LREM and RPUSH; at the third failure it dies in between."""

import json
import os
import signal
from itertools import count
from typing import Any

import redis
from zeroloss.ledger import effect

client = redis.Redis.from_url(os.environ["REDIS_URL"])
namespace = os.environ["ZEROLOSS_NAMESPACE"]
pending, processing = f"{namespace}:pending", f"{namespace}:processing"
raised: set[str] = set()
failures = count(1)
while True:
    element: Any = client.brpoplpush(pending, processing, timeout=1)
    if element is None:
        continue
    task = json.loads(element)
    try:
        with effect(task["id"], payload=element):
            if task["id"] not in raised:
                raised.add(task["id"])
                raise RuntimeError("the first time")
        client.lrem(processing, 1, element)
    except RuntimeError:
        client.lrem(processing, 1, element)
        if next(failures) == 3 and client.set("died", 1, nx=True):
            os.kill(os.getpid(), signal.SIGKILL)
        client.rpush(pending, element)
