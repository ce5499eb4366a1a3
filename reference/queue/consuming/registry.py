"""The scripts by which a consumer registers, shows that it lives, and leaves, and what they answer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..connection import Script
from ..lua import ACK, GIVE_BACK, HEADER, LISTS, NOTE, NOW

# KEYS  consumers, processing, paused, numbers, info, then, where the minute is known: its series, counters, the three
#       lists, delayed, dead_letter
# ARGV  consumer, lease_ms, the highest number that a claim may have been given, what the consumer says of itself or '',
#       then fields of the series and how much to add to each
# Returns {whether the lease had ended or never begun, how many tasks are held, whether claiming is paused, the time}
# Recovery has forgotten the numbers with the entry: noted again, they keep out what the network repeats from before.
# What is for the monitor comes last, and by `pcall`. Who notes for all also removes what consumers said that are not
# registered any more: a reaper of a release that knows nothing of it leaves it.
RENEW = Script(f"""#!lua flags=allow-oom
{NOW}{NOTE}
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease and ARGV[3] ~= '0' then redis.call('HSET', KEYS[4], ARGV[1], ARGV[3]) end
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
local held, paused = redis.call('HLEN', KEYS[2]), redis.call('EXISTS', KEYS[3])
if ARGV[4] ~= '' then redis.pcall('HSET', KEYS[5], ARGV[1], string.format('%d ', now) .. ARGV[4]) end
if KEYS[6] and note(KEYS[6], now, {{KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12]}}, ARGV, 5) then
  for _, name in ipairs(redis.pcall('HKEYS', KEYS[5])) do
    if redis.pcall('ZSCORE', KEYS[1], name) == false then redis.pcall('HDEL', KEYS[5], name) end
  end
end
return {{(lease and tonumber(lease) > now) and 0 or 1, held, paused, now}}
""")

# KEYS  the bell and the three lists, processing, counters, consumers, presence, numbers, info
# ARGV  consumer, the numbers that are done, the numbers to give back, highest first
# Returns {1 when it left, 0 when it still holds tasks: then its lease ends now and they are recovered,
#         those of the numbers that are done that it did not hold}
# One step, so that a worker that is killed while it leaves has either all of it behind it or none.
# A claim that is under way finds no lease after it.
LEAVE = Script(f"""#!lua flags=allow-oom
{NOW}{HEADER}{LISTS}{ACK}{GIVE_BACK}
local lost = ack(KEYS[5], KEYS[6], ARGV[2])
give_back(KEYS[5], ARGV[3])
local left = redis.call('HLEN', KEYS[5]) == 0
if left then
  redis.call('ZREM', KEYS[7], ARGV[1])
  redis.call('HDEL', KEYS[8], ARGV[1])
  redis.call('HDEL', KEYS[9], ARGV[1])
  redis.pcall('HDEL', KEYS[10], ARGV[1])
else
  redis.call('ZADD', KEYS[7], now, ARGV[1])
end
ring()
return {{left and 1 or 0, lost}}
""")


@dataclass(frozen=True, slots=True)
class Renewal:
    """`lapsed`: the lease had ended, or this is the first. `holding`: tasks held now. `paused`: claim none.

    `time_ms`: when that was, by Redis's clock.
    """

    lapsed: bool
    holding: int
    paused: bool = False
    time_ms: int = field(default=0, compare=False)


class Report(NamedTuple):
    """What goes along with a renewal, for the monitor alone; it may be lost.

    `about`: the consumer, as a short JSON object. `minute`: the minute since the epoch that the counts belong to, by
    Redis's clock; 0: not known. `counts`: fields of its series, and how much to add to each.
    """

    about: str = ""
    minute: int = 0
    counts: Mapping[str, int] = {}


NO_REPORT = Report()


class Departure(NamedTuple):
    """`left`: nothing is held any more, and it is off the registry. `lost`: numbers that were not held (I3)."""

    left: bool
    lost: list[int]
