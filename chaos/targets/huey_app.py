"""The application of `huey`, as both its consumer and its producer import it."""

import os
import time
from typing import Any

from huey import RedisHuey

from ..ledger import effect

huey = RedisHuey("zeroloss", url=os.environ["REDIS_URL"])


@huey.task()
def work(payload: dict[str, Any]) -> None:
    with effect(payload["id"], payload=payload):
        time.sleep(payload["work_ms"] / 1000)
