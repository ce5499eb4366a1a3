"""Which shards there are, which of them a key belongs to, and the refusal of another number of them."""

import hashlib
from dataclasses import replace
from functools import partial

import redis

from ..queue import protocol
from ..queue.config import Config
from ..queue.connection import Script
from ..queue.errors import OtherProtocol

# KEYS  shards
# ARGV  how many there are
# Returns the number that is noted; where none is, this one is noted
_AGREE = Script("""#!lua flags=allow-oom
local noted = redis.call('GET', KEYS[1])
if noted then return noted end
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]
""")


def shard_configs(config: Config) -> list[Config]:
    """The settings of each shard. Its namespace carries a hash tag, so that its keys share a slot: `{tasks-0}`."""
    name = config.namespace.removeprefix("{").removesuffix("}")
    return [replace(config, namespace=f"{{{name}-{number}}}", shards=1) for number in range(config.shards)]


def shard_of(key: str, count: int) -> int:
    """The shard of an idempotency key: always the same one, so that a repetition finds the first request (I8)."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


def refuse_other_count(client: redis.Redis, shard: Config, count: int) -> None:
    """Refuse a shard that was used as one of another number, and note this one where there is none yet.

    With another number a key would belong to another shard, and a repeated request would become a second task.

    Raises:
        OtherProtocol: naming both numbers.
        redis.RedisError: Redis did not answer.
    """
    noted: bytes = _AGREE(client, [f"{shard.namespace}:shards"], [count])
    if noted != str(count).encode():
        raise OtherProtocol(
            f"The shard {shard.namespace} is one of {noted.decode(errors='backslashreplace')}, not of {count}: set "
            f"ZEROLOSS_SHARDS to that, or drain the queue and delete {shard.namespace}:shards on each shard."
        )


def refuse_at_start(config: Config) -> None:
    """Refuse what a part cannot work with on any shard that answers at once.

    Raises:
        ConfigError: a server is too old, or the URL cannot be used.
        OtherProtocol: a shard is of another protocol, or one of another number of shards.
    """
    for shard in shard_configs(config):
        protocol.refuse_at_start(shard, partial(refuse_other_count, shard=shard, count=config.shards))
