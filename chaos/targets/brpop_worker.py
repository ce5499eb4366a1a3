"""The worker of `brpop`."""

import json
import os
import time
from typing import Any

import redis

from ..ledger import effect


def main() -> None:
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    pending = f"{os.environ['ZEROLOSS_NAMESPACE']}:pending"
    while True:
        popped: Any = client.brpop([pending], timeout=1)
        if popped is None:
            continue
        task = json.loads(popped[1])
        with effect(task["id"], payload=popped[1]):
            time.sleep(task["work_ms"] / 1000)


if __name__ == "__main__":
    main()
