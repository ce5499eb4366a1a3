"""A worker whose queue redelivers a task that was not acked within 5 s."""

import json
import os
import time

import redis
from zeroloss.ledger import effect

VISIBLE_AGAIN_S = 5.0


def main() -> None:
    client = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)
    while True:
        for element in client.zrangebyscore("claimed", 0, time.time() - VISIBLE_AGAIN_S):
            if client.zrem("claimed", element):
                client.rpush("pending", element)
        popped = client.brpop(["pending"], 0.2)
        if not popped:
            continue
        element = popped[1]
        client.zadd("claimed", {element: time.time()})
        payload = json.loads(element)
        with effect(payload["id"], payload=payload):
            time.sleep(payload["work_ms"] / 1000)
        client.zrem("claimed", element)


if __name__ == "__main__":
    main()
