"""Whether the process answers; whether Redis can be trusted with a queue, asked by a client that gives up quickly."""

import falcon
import redis
from redis.exceptions import RedisError, ResponseError

from ..queue.config import Config
from ..queue.connection import Script, connect
from ..queue.durability import Durability
from ..queue.keys import Keys
from .problems import REDIS_RETRY_AFTER_S, Problem, redis_unavailable

PROBE_TIMEOUT_S = 1.0

# KEYS  pending, counters, an idempotency key
# Does nothing, and is refused where `_ENQUEUE` would be before it begins: by a read-only replica, with a full memory,
# without replicas enough, without the right to scripts or keys. Like that one it says neither no-writes nor allow-oom.
_MAY_WRITE = Script("#!lua\nreturn 1\n")


class Health:
    """`/healthz`: it speaks for the process alone."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "application/json"
        resp.set_header("Cache-Control", "no-store")
        resp.data = b'{"status": "ok"}'

    on_head = on_get


def connect_probe(config: Config) -> redis.Redis:
    """A client for looking, not for enqueuing: a Redis that does not answer within a second counts as down.

    Raises:
        ConfigError: the URL is not one that redis-py reads.
    """
    return connect(config, connections=16, timeout_s=PROBE_TIMEOUT_S)


def require_ready(client: redis.Redis, durability: Durability, keys: Keys) -> str:
    """Return the server's eviction policy, "unknown" where it may not be asked for.

    Raises:
        Problem: 503, Redis does not answer, may evict the queue's own tasks when its memory is full, would refuse a new
            task, or is not set up for the durability that a promise needs.
    """
    policy = _require_no_eviction(client)
    _require_acceptance(client, keys)
    try:
        reason = durability.why_out_of_reach(client)
    except RedisError as error:
        raise redis_unavailable(error) from None
    if reason:
        raise Problem(
            "durability-out-of-reach",
            f"No task can be promised as {durability.level}: {reason.rstrip('.')}.",
            headers={"Retry-After": str(REDIS_RETRY_AFTER_S)},
        )
    return policy


def _require_no_eviction(client: redis.Redis) -> str:
    try:
        client.ping()
        memory = client.info("memory")  # CONFIG GET says the same and is forbidden more often
    except ResponseError:  # it answers, and does not say: INFO is forbidden or renamed
        return "unknown"
    except RedisError as error:
        raise redis_unavailable(error) from None
    policy = str(memory.get("maxmemory_policy", "unknown"))
    # What is volatile expires, and of the queue's keys only those of idempotency and of charts do.
    if memory.get("maxmemory") and policy.startswith("allkeys-"):
        raise Problem(
            "redis-evicts",
            f"Redis has maxmemory-policy {policy}, which deletes queued tasks when its memory is full; "
            "set it to noeviction.",
            headers={"Retry-After": str(REDIS_RETRY_AFTER_S)},
        )
    return policy


def _require_acceptance(client: redis.Redis, keys: Keys) -> None:
    try:
        _MAY_WRITE(client, [keys.pending, keys.counters, keys.idempotency("")], [])
    except ResponseError as error:
        raise Problem(
            "redis-refuses",
            f"No task can be accepted: Redis refuses ({str(error).rstrip('.')}).",
            headers={"Retry-After": str(REDIS_RETRY_AFTER_S)},
        ) from None
    except RedisError as error:
        raise redis_unavailable(error) from None
