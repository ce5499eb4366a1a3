"""Lua code that several scripts share: text that stands at their beginning.

Rules for each script that writes:
- `allow-oom`: when maxmemory is reached, a script that only moves and removes entries must still run, or the queue
  could never drain. A script that adds entries leaves the flag out, and Redis refuses it before it begins.
- A script that moves entries checks, then adds, and removes last, entry by entry. Redis stops a script at a key of
  another type or a command that an ACL forbids, and undoes nothing. The entry is then where it was, or in two places,
  and never lost.
"""

# Milliseconds of Redis's clock: the only clock that leases and due times are compared with.
NOW = "local time = redis.call('TIME'); local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"

# `heading` reads an entry's header (see `task.py`), nil if it is missing or invalid; `headed` returns the same body
# with another header. Only the first bytes are parsed: an entry may have megabytes, or a count of 4,300 digits.
HEADER = """
local function heading(entry)
  local priority, attempt, retries, recoveries, since, salt, trace = string.match(
    string.sub(entry, 1, 160), '^([hdl]),(%d+),(%d+),(%d+),(%d+),(%d+),([%x-]*);')
  if not priority or #attempt > 9 or #retries > 9 or #recoveries > 9 or #since > 15 or #salt > 9 then return nil end
  return {priority = priority, attempt = tonumber(attempt), retries = tonumber(retries),
    recoveries = tonumber(recoveries), since = since, salt = tonumber(salt), trace = trace,
    body = #attempt + #retries + #recoveries + #since + #salt + #trace + 9}
end
local function headed(head, entry)
  return string.format('%s,%d,%d,%d,%s,%d,%s;', head.priority, head.attempt, head.retries, head.recoveries,
    head.since, head.salt, head.trace) .. string.sub(entry, head.body)
end
"""

# For scripts whose KEYS begin with the bell and the three lists (`Keys.waiting`). `pending(head)` is the list for an
# entry with this header. `ring` sets or deletes the bell, by whether a task is pending. It comes last, and by `pcall`:
# a bell of another type must not stop the script.
LISTS = """
local lists = {h = KEYS[2], d = KEYS[3], l = KEYS[4]}
local function pending(head) return lists[head and head.priority or 'd'] end
local function ring()
  local some = false
  for i = 2, 4 do
    local length = redis.pcall('LLEN', KEYS[i])
    some = some or type(length) ~= 'number' or length > 0
  end
  local rung = redis.pcall('LLEN', KEYS[1])
  if some and rung == 0 then redis.pcall('LPUSH', KEYS[1], '1') end
  if not some and type(rung) == 'number' and rung > 0 then redis.pcall('DEL', KEYS[1]) end
end
"""

# `ack` removes the tasks under the numbers in a text, and returns the numbers that were not held.
ACK = """
local function ack(processing, counters, numbers)
  local lost, completed = {}, 0
  for done in string.gmatch(numbers, '%d+') do
    if redis.call('HDEL', processing, done) == 1 then completed = completed + 1
    else lost[#lost + 1] = tonumber(done) end
  end
  if completed > 0 then redis.call('HINCRBY', counters, 'completed', completed) end
  return lost
end
"""

# For scripts with HEADER and LISTS. `give_back` moves the tasks under the numbers in a text to the claiming end.
# The highest number comes first, so that the lowest is claimed first again. Returns how many were held.
GIVE_BACK = """
local function give_back(processing, numbers)
  local released = 0
  for number in string.gmatch(numbers, '%d+') do
    local entry = redis.call('HGET', processing, number)
    if entry then
      redis.call('RPUSH', pending(heading(entry)), entry)
      redis.call('HDEL', processing, number)
      released = released + 1
    end
  end
  return released
end
"""

# `bury` adds an entry to the dead-letter stream, or returns the refusal. An unreadable entry is kept unchanged.
BURY = """
local function bury(stream, entry, reason, text, traceback, consumer)
  local added = redis.pcall('XADD', stream, '*', 'entry', entry, 'reason', reason, 'error', text,
    'traceback', traceback, 'consumer', consumer)
  return type(added) == 'table' and added.err and added or nil
end
"""

# `delay` adds an entry to a sorted set. Equal entries would be one there: the salt is raised until the entry is new.
DELAY = """
local function delay(set, due, head, entry)
  local salted = headed(head, entry)
  while redis.call('ZADD', set, 'NX', due, salted) == 0 do
    head.salt = (head.salt + 1) % 1000000000
    salted = headed(head, entry)
  end
end
"""

# `note(series, now, places, counts, from)` records the data of the charts. The first call in each slot of a minute
# stores the state of the queue in one field: the counters, how many tasks wait by priority and since when, how many
# are delayed and dead. Each call adds the caller's counts since its previous call, as pairs of a field and a number.
# Returns whether this call is the first in its slot.
# Nothing here may stop the script around it: a key of another type, or a missing permission, leaves a gap.
SERIES_SLOT_MS = 10_000
# Upper bounds of a minute's histograms, in ms, as in the field "wait:5"; the last field is "wait:inf".
SERIES_BOUNDS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000)
SERIES_KEPT_S = 7_500  # two hours, and the minute that is being written
NOTE = f"""
local function noted(answer) return type(answer) == 'number' and string.format('%d', answer) or '-' end
local function waiting(list)
  local next = redis.pcall('LINDEX', list, -1)
  return type(next) == 'string' and string.match(string.sub(next, 1, 160), '^[hdl],%d+,%d+,%d+,(%d+),') or '-'
end
local function note(series, now, places, counts, from)
  local slot = string.format('%d', math.floor(now % 60000 / {SERIES_SLOT_MS}))
  local first = redis.pcall('HEXISTS', series, slot) == 0
  if first then
    local shown = {{string.format('%d', now)}}
    local names = {{'enqueued', 'completed', 'failed', 'retried', 'recovered', 'dead_lettered'}}
    for _, name in ipairs(names) do
      local count = redis.pcall('HGET', places[1], name)
      shown[#shown + 1] = type(count) == 'string' and #count < 20 and string.match(count, '^%d+$')
        or count == false and '0' or '-'
    end
    for i = 2, 4 do shown[#shown + 1] = noted(redis.pcall('LLEN', places[i])) end
    for i = 2, 4 do shown[#shown + 1] = waiting(places[i]) end
    shown[#shown + 1] = noted(redis.pcall('ZCARD', places[5]))
    shown[#shown + 1] = noted(redis.pcall('XLEN', places[6]))
    redis.pcall('HSET', series, slot, table.concat(shown, ' '))
    redis.pcall('EXPIRE', series, {SERIES_KEPT_S})
  end
  for i = from, #counts, 2 do redis.pcall('HINCRBY', series, counts[i], counts[i + 1]) end
  return first
end
"""

VANISHED_MAX = 100
