"""The scripts with which a consumer registers, renews its lease and leaves, and their replies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ..connection import Script
from ..lua import ACK, GIVE_BACK, HEADER, LISTS, NOTE, NOW

# KEYS  consumers, processing, paused, numbers, info, then, if the minute is known: its series, counters, the three
#       lists, delayed, dead_letter
# ARGV  consumer, lease_ms, the highest delivery number reserved for a claim, the consumer's description or '',
#       then pairs of a field of the series and the amount to add
# Returns {1 if the lease had ended or never begun, number of tasks held, 1 if claiming is paused, the time}
# Recovery deletes the consumer's highest number with its entry. The number is stored again here, so that claims which
# the network repeats from before do nothing.
# Data for the monitor comes last, and by `pcall`. The first consumer in a slot of the series also removes descriptions
# of consumers that are not registered: a reaper of a release without descriptions leaves them.
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
# ARGV  consumer, the done numbers, the numbers to give back, highest first
# Returns {1 if the consumer left, 0 if it still holds tasks: then its lease ends now and they are recovered,
#         the done numbers that it did not hold}
# One step, so that a worker that is killed while it leaves has either done all of this or nothing.
# A claim that arrives later finds no lease.
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
    """`lapsed`: the lease had ended, or had not begun. `holding`: number of tasks held. `paused`: claiming is paused.

    `time_ms`: time of the renewal, by Redis's clock.
    """

    lapsed: bool
    holding: int
    paused: bool = False
    time_ms: int = field(default=0, compare=False)


class Report(NamedTuple):
    """Data for the monitor, sent with a renewal; it may be lost.

    `about`: description of the consumer, a short JSON object. `minute`: the minute of the counts, since the epoch by
    Redis's clock; 0: not known. `counts`: amounts to add to the fields of this minute's series.
    """

    about: str = ""
    minute: int = 0
    counts: Mapping[str, int] = {}


NO_REPORT = Report()


class Departure(NamedTuple):
    """`left`: the consumer holds nothing and is not registered any more. `lost`: done numbers it did not hold (I3)."""

    left: bool
    lost: list[int]
