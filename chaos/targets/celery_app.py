"""The application of `celery`, as both its worker and its producer import it."""

import os
import time
from typing import Any

from celery import Celery

from ..ledger import effect

app = Celery("zeroloss", broker=os.environ["REDIS_URL"])


@app.task
def work(payload: dict[str, Any]) -> None:
    with effect(payload["id"], payload=payload):
        time.sleep(payload["work_ms"] / 1000)
