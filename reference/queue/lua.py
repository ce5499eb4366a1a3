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

# An entry's header (see `task.py`): `heading` reads it, nil where there is none that makes sense; `headed` writes it
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
# entry belongs to; `ring` leaves the bell as it has to be, and comes last: a bell of another type must not undo
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
