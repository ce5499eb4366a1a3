"""The worker of `Tells`: it prints the server's URL, and some tasks fail once with the URL in the error."""

import json
import os
from contextlib import suppress

import redis
from zeroloss.ledger import effect

if __name__ == "__main__":
    url = os.environ["REDIS_URL"]
    print("a worker says", url, redis.Redis.from_url(url).connection_pool.connection_kwargs)
    client = redis.Redis.from_url(url)
    while True:
        _, popped = client.brpop(["pending"])
        task = json.loads(popped)
        if task["id"].endswith("2"):
            with suppress(RuntimeError), effect(task["id"], payload=task):
                raise RuntimeError(f"a task says {url}")
        with effect(task["id"], payload=task):
            pass
