"""Chooses the shard that a worker process attends, by the state in Redis; each pool chooses for itself.

A shard's state is its number of consumers with a live lease, and its work. A process goes to the shard with the fewest
consumers, and among these to the one with most work. A pool checks again every few seconds, and moves a process from a
shard that can spare it to a shard without a consumer. A key that expires keeps two pools from doing so at once.
"""

import logging
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import redis

from ..queue.config import Config
from ..queue.connection import Script
from ..queue.errors import OtherProtocol
from ..queue.keys import Keys
from .layout import shard_config
from .members import ASKED_AT_ONCE, Shards, together

logger = logging.getLogger(__name__)

MOVE_MS = 5_000  # time for a process to move before another pool may try

# KEYS  the three lists, delayed, consumers
# Returns {consumers with a live lease, tasks that are pending or due, consumers whose lease has ended}
_LOOK = Script("""#!lua flags=no-writes
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local waiting = 0
for i = 1, 3 do waiting = waiting + redis.call('LLEN', KEYS[i]) end
waiting = waiting + redis.call('ZCOUNT', KEYS[4], '-inf', now)
local living = redis.call('ZCOUNT', KEYS[5], '(' .. now, '+inf')
return {living, waiting, redis.call('ZCARD', KEYS[5]) - living}
""")


@dataclass(frozen=True, slots=True)
class Load:
    """The state of one shard. `work`: number of waiting tasks, and of consumers whose tasks must be recovered.

    `leaving`: the number of shards was lowered, and this shard gets no new tasks.
    """

    number: int
    shard: Config
    attendants: int
    work: int
    leaving: bool

    @property
    def wants_nobody(self) -> bool:
        return self.leaving and not self.work


class Balance:
    """Chooses shards for the processes of one pool."""

    def __init__(self, config: Config) -> None:
        self._shards = Shards(config)

    def choose(self, attended: Iterable[str]) -> Config:
        """Return the shard for a process that starts. `attended`: the namespaces of the pool's other processes.

        These count as attendants even if Redis does not show them yet. If no shard answers, the choice is random.
        """
        own = Counter(attended)
        loads = [load for load in self._look() if not load.wants_nobody]
        if not loads:
            return shard_config(self._shards.config, random.randrange(self._shards.layout.count))
        return min(loads, key=lambda load: _rank(load, own)).shard

    def relocation(self, attended: Sequence[str]) -> str | None:
        """Return the namespace of a process of this pool that another shard needs more; None if none should move.

        A shard without an attendant needs a process. A shard with several attendants can spare one; if the needy shard
        has work, so can a shard without work. A drained shard that is empty needs no process, and gives up its own.
        """
        own = Counter(attended)
        loads = self._look()
        for load in loads:
            if load.wants_nobody and own[load.shard.namespace]:
                return load.shard.namespace
        loads = [load for load in loads if not load.wants_nobody]
        needy = [load for load in loads if not load.attendants and not own[load.shard.namespace]]
        urgent = any(load.work for load in needy)
        spare = [
            load
            for load in loads
            if needy and own[load.shard.namespace] and (load.attendants > 1 or (urgent and not load.work))
        ]
        if not spare or not self._reserve(max(needy, key=lambda load: (load.work, random.random()))):
            return None
        return max(spare, key=lambda load: (load.attendants, -load.work, random.random())).shard.namespace

    def _reserve(self, load: Load) -> bool:
        """Reserve the move to a shard; return whether this pool got it."""
        client = self._shards.probe(load.number)
        try:
            return bool(client.set(f"{load.shard.namespace}:moving", 1, nx=True, px=MOVE_MS))
        except redis.RedisError:
            return False

    def _look(self) -> list[Load]:
        """Return the state of each shard that answers."""
        try:
            layout = self._shards.agree()
        except OtherProtocol as error:
            logger.warning("No shard is attended: %s", error)
            return []

        def load(numbered: tuple[int, Config]) -> Load | None:
            number, shard = numbered
            try:
                attendants, waiting, ended = _LOOK(self._shards.probe(number), _keys(shard), [])
            except redis.RedisError as error:
                logger.warning("The shard %s is left out: %s", shard.namespace, error)
                return None
            return Load(number, shard, attendants, waiting + ended, number >= layout.count)

        # At the same time: the only loop of the pool waits for this, and with it a signal to stop.
        loads = together(load, list(enumerate(self._shards.configs())), ASKED_AT_ONCE)
        return [each for each in loads if each]


def _rank(load: Load, own: Counter[str]) -> tuple[int, int, float]:
    return max(load.attendants, own[load.shard.namespace]), -load.work, random.random()


def _keys(shard: Config) -> list[str]:
    keys = Keys(shard.namespace)
    return [*keys.lists, keys.delayed, keys.consumers]
