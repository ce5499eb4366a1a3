"""The reference queue, which forgets an idempotency key before its client can use it again."""

from collections.abc import Mapping

from zeroloss.targets.reference import Reference


class Forgetful(Reference):
    """Remembers a key for 1 ms."""

    env: Mapping[str, str] = {**Reference.env, "ZEROLOSS_IDEMPOTENCY_TTL_MS": "1"}
