"""Health of the process, and readiness: whether Redis is safe for a queue, checked with a short timeout."""

import re

import falcon
import redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from ..queue.config import Config
from ..queue.connection import OLDEST_SERVER, Script, connect
from ..queue.durability import Durability
from ..queue.errors import OtherProtocol
from ..queue.keys import Keys
from ..queue.protocol import refuse_other_protocol
from .problems import REDIS_RETRY_AFTER_S, Problem, redis_refuses, redis_unavailable

PROBE_TIMEOUT_S = 1.0

# KEYS  the bell and the three lists, delayed, counters, an idempotency key: the keys that `ENQUEUE` uses
# Returns '' if `ENQUEUE` would be accepted, else why not. Redis refuses this script before it begins in the same cases
# as `ENQUEUE`: on a read-only replica, with full memory, with too few replicas, without permission for scripts, with
# keys in several slots. So it has the same flags: neither no-writes nor allow-oom. Its only write adds 0 to a counter.
_MAY_ENQUEUE = Script("""#!lua
local function failed(...)
  local answer = redis.pcall(...)
  return type(answer) == 'table' and answer.err
end
for i = 2, 4 do
  if failed('LLEN', KEYS[i]) then return KEYS[i] .. ' is not a list, or may not be read' end
  if not redis.acl_check_cmd('LPUSH', KEYS[i], '') then return 'the user may not LPUSH to ' .. KEYS[i] end
end
if failed('ZCARD', KEYS[5]) then return KEYS[5] .. ' is not a sorted set, or may not be read' end
if not redis.acl_check_cmd('ZADD', KEYS[5], 'NX', '0', '') then return 'the user may not ZADD to ' .. KEYS[5] end
if not redis.acl_check_cmd('GET', KEYS[7]) or not redis.acl_check_cmd('SET', KEYS[7], '', 'PX', '1') then
  return 'the user may not GET and SET ' .. KEYS[7]
end
if failed('HINCRBY', KEYS[6], 'enqueued', 0) then
  return KEYS[6] .. ' is not a hash with a number in it, or may not be written'
end
return ''
""")


class Health:
    """`/healthz`: the process answers, whatever the state of Redis."""

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = "application/json"
        resp.set_header("Cache-Control", "no-store")
        resp.data = b'{"status": "ok"}'

    on_head = on_get


def connect_probe(config: Config) -> redis.Redis:
    """Return a client for checks, not for enqueuing: a Redis that does not answer within a second counts as down.

    Raises:
        ConfigError: redis-py cannot read the URL.
    """
    return connect(config, connections=16, timeout_s=PROBE_TIMEOUT_S)


def require_ready(client: redis.Redis, durability: Durability, keys: Keys) -> str:
    """Return the server's eviction policy, "unknown" if the server denies the question.

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
        memory = client.info("memory")  # CONFIG GET has the same value and is forbidden more often
    except ResponseError:  # the server answers, but INFO is forbidden or renamed
        return "unknown"
    except AuthenticationError as error:
        raise redis_refuses(f"Redis refuses ({_without_stop(error)})") from None
    except RedisError as error:
        raise redis_unavailable(error) from None
    policy = str(memory.get("maxmemory_policy", "unknown"))
    # A volatile-* policy evicts only keys that expire: those of idempotency and of charts, not the tasks.
    if memory.get("maxmemory") and policy.startswith("allkeys-"):
        raise Problem(
            "redis-evicts",
            f"Redis has maxmemory-policy {policy}, which deletes queued tasks when its memory is full; "
            "set it to noeviction.",
            headers={"Retry-After": str(REDIS_RETRY_AFTER_S)},
        )
    return policy


def _require_acceptance(client: redis.Redis, keys: Keys) -> None:
    touched = [*keys.waiting, keys.delayed, keys.counters, keys.idempotency("")]
    try:
        reason: bytes = _MAY_ENQUEUE(client, touched, [])
        refuse_other_protocol(client, keys)
    except ResponseError as error:
        old = _old_version(client)
        raise redis_refuses(old or f"Redis refuses ({_without_stop(error)})") from None
    except OtherProtocol as error:
        raise redis_refuses(str(error)) from None
    except RedisError as error:
        raise redis_unavailable(error) from None
    if reason:
        raise redis_refuses(reason.decode(errors="replace"))


def _old_version(client: redis.Redis) -> str | None:
    """Return why the server is too old for the queue's scripts; None if it is not, or does not report its version."""
    try:
        version = str(client.info("server").get("redis_version", ""))
    except RedisError:
        return None
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) >= OLDEST_SERVER:
        return None
    return f"the server is Redis {version}, and the queue needs Redis {'.'.join(map(str, OLDEST_SERVER))} or later"


def _without_stop(error: Exception) -> str:
    return str(error).rstrip(".")
