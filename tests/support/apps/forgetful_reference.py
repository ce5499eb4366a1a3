"""The reference queue with idempotency keys that expire before the client can use them again."""

from collections.abc import Mapping

from zeroloss.targets.reference import Reference


class Forgetful(Reference):
    """Keeps a key for 1 ms."""

    env: Mapping[str, str] = {**Reference.env, "ZEROLOSS_IDEMPOTENCY_TTL_MS": "1"}
