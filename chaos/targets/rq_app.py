"""The job of `rq`, as its work horses import it, and the settings of its worker."""

import os
import time
from typing import Any

from chaos.ledger import effect

REDIS_URL = os.environ["REDIS_URL"]


def work(payload: dict[str, Any]) -> None:
    with effect(payload["id"], payload=payload):
        time.sleep(payload["work_ms"] / 1000)
