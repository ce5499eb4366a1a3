"""The work itself."""

import time

from zeroloss.ledger import effect


def deliver(payload: dict) -> None:
    with effect(payload["id"], payload=payload):
        time.sleep(payload.get("work_ms", 0) / 1000)
