"""The reference queue spread over two shards, for a Redis Cluster: `--redis cluster`."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import connect
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.shards.layout import shard_configs
from zeroloss.reference.shards.spread import FENCED_ENQUEUE

from ..target import Found
from .reference import LEASE_MS, Reference
from .reference_census import census_of

SHARDS = 2
BALANCE_S = 3.0
START_S = 5.0


class ReferenceShards(Reference):
    """As `reference`, spread over shards. Its workers move between them, so a recovery may wait for one to move."""

    name: ClassVar[str] = "reference-shards"
    # Order and priorities hold within a shard only, and a process that moves to another shard ends.
    fifo = False
    takes_bare = False
    has_old_letters = False
    behaviours = Reference.behaviours - {"undecodable"}
    priorities = ()
    lower_within = None
    workers_stay = False
    recovers_in_order = False
    pauses_within = None
    keys_at_rest = SHARDS * (Reference.keys_at_rest or 0)
    recover_within = LEASE_MS / 1000 + BALANCE_S + START_S
    scripts: Mapping[str, str] = {**Reference.scripts, FENCED_ENQUEUE.digest[:8]: "enqueue"}
    env: Mapping[str, str] = {**Reference.env, "ZEROLOSS_SHARDS": str(SHARDS)}

    def census(self) -> Iterator[Found]:
        for shard in shard_configs(Config(redis_url=self.redis_url, namespace=self.namespace, shards=SHARDS)):
            with connect(shard) as client:
                yield from census_of(client, Keys(shard.namespace))
