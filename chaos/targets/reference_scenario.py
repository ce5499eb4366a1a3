"""The reference as `zeroloss enumerate` runs it: short leases, so that a hundred recoveries need no patience, and one
handler thread, so that every run sends the same commands in the same order."""

from collections.abc import Mapping

from .reference import Reference

LEASE_MS = 900
SWEEP_MS = 150


class ReferenceScenario(Reference):
    """The queue as it is shipped; only its times are shorter."""

    recover_within = (LEASE_MS + SWEEP_MS) / 1000
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
