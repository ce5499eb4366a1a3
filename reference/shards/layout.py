"""The layout: the present and the previous number of shards, the shard of a key, and the note on each shard."""

import hashlib
import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..queue.config import Config
from ..queue.connection import Script
from ..queue.errors import NotAccepted

# KEYS  shards
# ARGV  a layout, the time of its change, and the layout that must be stored so far ('': any older one)
# Returns the layout that is stored now, and since when (ms of this shard's clock).
# From that time on the shard refuses requests of older layouts. So it forgets the last key that it accepted by an older
# layout one `idempotency_ttl_ms` later.
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

    The time, by the first shard's clock, only serves to find the newer of two layouts.
    """

    count: int
    before: int
    changed_ms: int = 0

    @property
    def attended(self) -> int:
        """The number of shards that may hold tasks."""
        return max(self.count, self.before)

    def text(self) -> str:
        """Return the layout as it is stored in Redis."""
        return f"{self.count} {self.before} {self.changed_ms}"


class Noted(NamedTuple):
    """The layout that one shard stores, and since when (ms of its own clock)."""

    layout: Layout
    since_ms: int


def read_note(noted: bytes | None) -> Noted | None:
    """Parse a shard's note; None if it is missing or invalid."""
    found = _NOTED.fullmatch(noted or b"")
    return found and Noted(Layout(int(found[1]), int(found[2]), int(found[3])), int(found[4]))


def shards_key(shard: Config) -> str:
    """STRING: the layout, and since when this shard has it."""
    return f"{shard.namespace}:shards"


def shard_config(config: Config, number: int) -> Config:
    """Return the settings of a shard. Its namespace is a hash tag, `{tasks-0}`, so that its keys share a slot."""
    name = config.namespace.removeprefix("{").removesuffix("}")
    return replace(config, namespace=f"{{{name}-{number}}}", shards=1)


def shard_configs(config: Config) -> list[Config]:
    """Return the settings of the configured number of shards; the real number is in `Shards`."""
    return [shard_config(config, number) for number in range(config.shards)]


def shard_of(key: str, count: int) -> int:
    """Return the shard of an idempotency key. It depends on key and count only: a repetition finds the request (I8)."""
    digest = hashlib.sha256(key.encode()).digest()
    return int.from_bytes(digest[:8], "big") % count


class ShardsChanged(NotAccepted):
    """The number of shards has changed since a request was assigned to a shard. Nothing ran; it is assigned again."""
