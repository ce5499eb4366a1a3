"""The script that acks and claims in one step, and its reply."""

from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

from ..connection import Script
from ..lua import ACK, HEADER, LISTS, NOW

# Limit on the bytes of tasks in one reply, about a MiB; a single task may exceed it. Over a slow link a larger reply
# would take longer than the socket timeout, and the same tasks would be fetched again and again.
MAX_TRANSFER_BYTES = 1_048_576

TURNS = 16  # out of 16 claims one tries the low list first, and one the default list; the others try high first

# KEYS  the bell and the three lists, processing, consumers, numbers, counters
# ARGV  consumer, the first delivery number to use, limits of the claim in tasks and in bytes (one task may exceed
#       the latter), the turn among TURNS, the done numbers
# Returns {1 if the lease lives, the done numbers that were not held, 1 if a task stays pending because of the byte
#         limit, the lengths of the claimed entries in the order of their numbers, these entries in one string}
# The speed comes from one round trip for a batch of acks and the next claims, and from one string for all entries:
# redis-py takes 3 us for each part of a reply. The script reads 16 entries at a time: 256 entries of unknown size could
# fill Lua's heap.
SETTLE = Script(f"""#!lua flags=allow-oom
{NOW}{HEADER}{LISTS}{ACK}
local lost = ack(KEYS[5], KEYS[8], ARGV[6])
local lease, number = redis.call('ZSCORE', KEYS[6], ARGV[1]), tonumber(ARGV[2])
local lives, limit = lease and tonumber(lease) > now, tonumber(ARGV[3])
if not lives or limit > 0 and number <= tonumber(redis.call('HGET', KEYS[7], ARGV[1]) or 0) then limit = 0 end
local length, taken, read = {{}}, {{0, 0, 0}}, {{{{}}, {{}}, {{}}}}
for i = 1, 3 do length[i] = limit > 0 and redis.call('LLEN', KEYS[i + 1]) or 0 end
local fields, entries, lengths, count, bytes, full = {{}}, {{}}, {{}}, 0, 0, false
local bytes_max, start = tonumber(ARGV[4]), tonumber(ARGV[5])
while count < limit do
  local turn = (start + count) % {TURNS}
  local at = turn == 0 and 3 or turn == {TURNS // 2} and 2 or 1
  if taken[at] == length[at] then at = taken[1] < length[1] and 1 or taken[2] < length[2] and 2 or 3 end
  local had = taken[at]
  if had == length[at] then break end
  local slice = read[at]
  local left = #slice
  if left == 0 then
    slice = redis.call('LRANGE', KEYS[at + 1], -math.min(had + 16, had + limit - count), -had - 1)
    read[at] = slice
    left = #slice
  end
  local entry = slice[left]
  local size = #entry
  full = count > 0 and bytes + size > bytes_max
  if full then break end
  slice[left] = nil
  taken[at] = had + 1
  if string.byte(entry) ~= 100 and string.find(entry, '^%s*{{') then
    entry = string.format('%s,1,0,0,%d,0,;', string.sub('hdl', at, at), now) .. entry
    size = #entry
  end
  fields[2 * count + 1], fields[2 * count + 2] = number + count, entry
  count = count + 1
  entries[count], lengths[count] = entry, size
  bytes = bytes + size
end
if count > 0 then
  for from = 1, 2 * count, 1000 do
    redis.call('HSET', KEYS[5], unpack(fields, from, math.min(from + 999, 2 * count)))
  end
  redis.call('HSET', KEYS[7], ARGV[1], number + count - 1)
  for i = 1, 3 do
    if taken[i] > 0 then redis.call('LTRIM', KEYS[i + 1], 0, -taken[i] - 1) end
  end
end
ring()
return {{lives and 1 or 0, lost, full and 1 or 0, table.concat(lengths, ' '), table.concat(entries)}}
""")


class Claimed(NamedTuple):
    """An entry, and the delivery number under which its consumer holds it."""

    number: int
    entry: bytes


@dataclass(frozen=True, slots=True)
class Settlement:
    """`lost`: done numbers that were not held any more (I3). `claimed`: new entries, oldest first.

    `more`: the next task is pending and was not claimed, as the reply would have become too large.
    """

    lease_lives: bool
    lost: list[int]
    claimed: list[Claimed]
    more: bool = False


def read_settlement(number: int, reply: Any) -> Settlement:
    """Parse the script's reply. `number`: the first delivery number that the script was given."""
    lives, lost, more, lengths, entries = reply
    ends = list(accumulate(map(int, lengths.split()), initial=0))
    claimed = [Claimed(number + i, entries[start:end]) for i, (start, end) in enumerate(pairwise(ends))]
    return Settlement(bool(lives), lost, claimed, bool(more))
