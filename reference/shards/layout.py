"""How many shards there are and were, which of them a key belongs to, and what is noted about it on each shard."""

import hashlib
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..queue.config import Config
from ..queue.connection import Script
from ..queue.errors import NotAccepted

# KEYS  shards
# ARGV  a layout, the time of its change, and the layout that must be noted so far ('': any that is older)
# Returns the layout that is noted now, and since when (ms of this shard's clock).
# From that time on the shard refuses requests of older layouts, so that the last key it accepted of these is forgotten
# one `idempotency_ttl_ms` later.
NOTE = Script("""#!lua flags=allow-oom
local noted = redis.call('GET', KEYS[1])
local layout, at = string.match(noted or '', '^(%d+ %d+ %d+) (%d+)$')
local changed = layout and tonumber(string.match(layout, '%d+$'))
if changed and (changed >= tonumber(ARGV[2]) or ARGV[3] ~= '' and ARGV[3] ~= layout) then return {layout, at} end
local time = redis.call('TIME')
at = string.format('%d', time[1] * 1000 + math.floor(time[2] / 1000))
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. at)
return {ARGV[1], at}
""")
_NOTED = re.compile(rb"(\d+) (\d+) (\d+) (\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Layout:
    """How many shards there are, how many there were before, and when that was changed (ms; 0: never).

    The time says which of two layouts is the newer one, and nothing else: it is that of the first shard's clock.
    """

    count: int
    before: int
    changed_ms: int = 0

    @property
    def attended(self) -> int:
        """How many shards may hold tasks."""
        return max(self.count, self.before)

    def text(self) -> str:
        """As it is noted."""
        return f"{self.count} {self.before} {self.changed_ms}"


class Noted(NamedTuple):
    """What one shard has noted, and since when (ms of its own clock)."""

    layout: Layout
    since_ms: int


def read_note(noted: bytes | None) -> Noted | None:
    """What lies on a shard; None: nothing that can be read."""
    found = _NOTED.fullmatch(noted or b"")
    return found and Noted(Layout(int(found[1]), int(found[2]), int(found[3])), int(found[4]))


def shards_key(shard: Config) -> str:
    """STRING: the layout, and since when this shard has it."""
    return f"{shard.namespace}:shards"


def shard_config(config: Config, number: int) -> Config:
    """The settings of a shard. Its namespace carries a hash tag, so that its keys share a slot: `{tasks-0}`."""
    name = config.namespace.removeprefix("{").removesuffix("}")
    return replace(config, namespace=f"{{{name}-{number}}}", shards=1)


def shard_configs(config: Config) -> list[Config]:
    """The settings of as many shards as are configured; `Shards` knows how many there are."""
    return [shard_config(config, number) for number in range(config.shards)]


def shard_of(key: str, count: int) -> int:
    """The shard of an idempotency key: always the same one, so that a repetition finds the first request (I8)."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


class ShardsChanged(NotAccepted):
    """The number of shards has changed since a request was assigned to this one: it did nothing, and is sent again."""
