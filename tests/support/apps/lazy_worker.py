"""The worker of the lazy targets: it sets the first task of a run aside.

`traffic`: until another task follows the `TASKS` of the run; `restart`: until a worker starts; `bury`: forever;
`record`: forever, and it stores the task under a key `job:ID`.
"""

import json
import os
import sys
import time
from typing import Any

import redis
from zeroloss.ledger import effect

TASKS = 20


def main(mode: str) -> None:
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    if mode == "restart":
        client.lmove("aside", "pending", "RIGHT", "LEFT")
    came = 0
    while True:
        popped: Any = client.brpop(["pending"], timeout=1)
        if popped is None:
            continue
        element = popped[1]
        came += 1
        if mode == "traffic" and came == TASKS + 1:
            client.lmove("aside", "pending", "RIGHT", "LEFT")
        task = json.loads(element)
        if task["id"].endswith("-0000001") and client.set("laid-aside", 1, nx=True):
            client.set(f"job:{task['id']}", element) if mode == "record" else client.lpush("aside", element)
            continue
        with effect(task["id"], payload=task):
            time.sleep(task["work_ms"] / 1000)


if __name__ == "__main__":
    main(sys.argv[1])
