"""The reference as `zeroloss enumerate` runs it: short leases, so that a hundred recoveries are quick, and one handler
thread, so that every run sends the same commands in the same order."""

from collections.abc import Mapping
from typing import ClassVar

from .reference import Reference
from .reference_shards import BALANCE_S, SHARDS, START_S, ReferenceShards

LEASE_MS = 900
SWEEP_MS = 150


class ReferenceScenario(Reference):
    """The queue as it is shipped; only its times are shorter."""

    recover_within = (LEASE_MS + SWEEP_MS) / 1000
    has_old_letters = False
    env: Mapping[str, str] = {
        "ZEROLOSS_LEASE_MS": str(LEASE_MS),
        "ZEROLOSS_RENEW_MS": "300",
        "ZEROLOSS_SWEEP_MS": str(SWEEP_MS),
        "ZEROLOSS_BLOCK_MS": "300",
        "ZEROLOSS_THREADS": "1",
        "ZEROLOSS_AHEAD_MS": "60",
        "ZEROLOSS_MAX_RETRIES": "1",
        "ZEROLOSS_BACKOFF_MS": "50",
        "ZEROLOSS_BACKOFF_MAX_MS": "50",
    }


class ShardsScenario(ReferenceScenario, ReferenceShards):
    """The same over two shards of one server, attended by a worker of two processes, which move between them."""

    name: ClassVar[str] = "reference-shards"
    recover_within = ReferenceScenario.recover_within + BALANCE_S + START_S
    worker = (*ReferenceScenario.worker[:-1], str(SHARDS))
    env: Mapping[str, str] = {**ReferenceScenario.env, "ZEROLOSS_SHARDS": str(SHARDS)}
