"""The worker of `Forgets`: it drops every third task."""

import itertools
import json
import os
from typing import Any

import redis
from zeroloss.ledger import effect

client = redis.Redis.from_url(os.environ["REDIS_URL"])
taken = itertools.count(1)
while True:
    popped: Any = client.brpop(["pending"], timeout=1)
    if popped is None or next(taken) % 3 == 0:
        continue
    task = json.loads(popped[1])
    with effect(task["id"], payload=task):
        pass
