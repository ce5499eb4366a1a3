"""The worker of `shared-list`."""

import json
import os
import time
from typing import Any

import redis

from ..ledger import effect


def main() -> None:
    client = redis.Redis.from_url(os.environ["REDIS_URL"])
    namespace = os.environ["ZEROLOSS_NAMESPACE"]
    pending, processing = f"{namespace}:pending", f"{namespace}:processing"
    raised: set[str] = set()
    while True:
        element: Any = client.brpoplpush(pending, processing, timeout=1)
        if element is None:
            continue
        task = json.loads(element)
        try:
            with effect(task["id"], payload=element):
                time.sleep(task["work_ms"] / 1000)
                if task.get("behaviour") == "raise-once" and task["id"] not in raised:
                    raised.add(task["id"])
                    raise RuntimeError("as planned")
            client.lrem(processing, 1, element)
        except Exception:  # noqa: BLE001 - as its authors wrote it
            client.lrem(processing, 1, element)
            client.rpush(pending, element)


if __name__ == "__main__":
    main()
