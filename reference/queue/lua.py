"""What several scripts have in common, as text that stands at their beginning.

Of every script that writes:
- `allow-oom`: where maxmemory is reached, what only moves and removes must go on, or the queue could never drain; a
  script that adds leaves the flag out and is refused before it begins.
- What moves an entry looks, then adds, and removes last, entry by entry. Redis undoes nothing of a script that it
  stops, as it does where a key is of another type or an ACL forbids a command: an entry is then where it was, or in two
  places, and never in none.
"""

# Milliseconds of Redis's clock: the only clock that leases and due times are compared with.
NOW = "local time = redis.call('TIME'); local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"

# An entry's header (see `task.py`): `heading` reads it, nil where it is missing or invalid; `headed` writes it
# before the same body. Only the first bytes are looked at: an entry may have megabytes, or a count of 4,300 digits.
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

# Of scripts whose KEYS begin with the bell and the three lists (`Keys.waiting`). `pending(entry)` is the list that an
# entry belongs to; `ring` leaves the bell as it must be, and comes last: a bell of another type must not undo
# anything, nor keep anything from being done.
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

# Finish what is done: `ack` removes the numbers of a text, and returns those that were not held.
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

# Of scripts with HEADER and LISTS. `give_back` puts what is held under the numbers of a text to the claiming end:
# highest first, so that the lowest is claimed first again. Returns how many were held.
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

# Give an entry up: `bury` adds it to the stream, or returns the refusal. What cannot be read is kept as it is.
BURY = """
local function bury(stream, entry, reason, text, traceback, consumer)
  local added = redis.pcall('XADD', stream, '*', 'entry', entry, 'reason', reason, 'error', text,
    'traceback', traceback, 'consumer', consumer)
  return type(added) == 'table' and added.err and added or nil
end
"""

# Wait in a sorted set, where equal entries would be one: the salt is raised until this one is new.
DELAY = """
local function delay(set, due, head, entry)
  local salted = headed(head, entry)
  while redis.call('ZADD', set, 'NX', due, salted) == 0 do
    head.salt = (head.salt + 1) % 1000000000
    salted = headed(head, entry)
  end
end
"""

# `note(series, now, places, counts, from)` notes what the charts show. Once in each slot of a minute, by the first of N
# workers: what Redis holds then (the counters, how many tasks wait by priority and since when, how many are delayed
# and dead), in one field. At each call: what the caller counted since its last one, as pairs of a field and a number.
# Returns whether this is the first in its slot.
# Nothing in it may stop the script that it stands in: a key of another type, or a right that is missing, is a gap.
SERIES_SLOT_MS = 10_000
# Upper bounds of a minute's histograms, in ms, as in the field "wait:5"; beyond the last one it is "wait:inf".
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
