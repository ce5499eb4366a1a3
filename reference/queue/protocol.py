"""The number of the protocol: the format of the keys, and what the scripts assume about it.

A queue is used by releases of one protocol at a time. A rolling deploy means two releases of one protocol; to change
it, stop the producers, let the old workers drain the queue, and start the new ones.
"""

from contextlib import suppress

import redis

from .config import Config
from .connection import ASK_TIMEOUT_S, Script, connect, refuse_old_server
from .errors import OtherProtocol
from .keys import Keys

PROTOCOL = 2

# KEYS  protocol
# ARGV  the number, dead_letter, consumers, delayed, pending, the prefix of all processing keys
# Returns '' if the queue has this protocol, or is new: then the number is stored; else the evidence of another
#         protocol. Keys of the first edition are recognized by their type, and by the form of their entries.
# Once the number is stored, no other key is read. A client whose ACL denies the other keys stores nothing.
_AGREE = Script("""#!lua flags=allow-oom
local noted = redis.call('GET', KEYS[1])
if noted then return noted == ARGV[1] and '' or KEYS[1] .. ' is ' .. string.sub(noted, 1, 20) end
local seen = true
local function look(...)
  local found = redis.pcall(...)
  if type(found) == 'table' and found.err then
    seen = false
    return {}
  end
  return found
end
if look('TYPE', ARGV[2]).ok == 'list' then return ARGV[2] .. ' is a list' end
for _, name in ipairs(look('ZRANGE', ARGV[3], 0, 99)) do
  if look('TYPE', ARGV[6] .. name).ok == 'list' then return ARGV[6] .. name .. ' is a list' end
end
if string.find(look('ZRANGE', ARGV[4], 0, 0)[1] or '', '^{') then return ARGV[4] .. ' holds tasks without a header' end
local oldest = look('LRANGE', ARGV[5], -1, -1)[1]
if string.find(oldest or '', '"retry_count":%d+,"recovered_count":%d+}$') then
  return ARGV[5] .. ' holds tasks with counts of their own'
end
if seen then redis.call('SET', KEYS[1], ARGV[1]) end
return ''
""")


def refuse_other_protocol(client: redis.Redis, keys: Keys) -> None:
    """Raise OtherProtocol for a queue of another protocol, or of the first edition; store the number in a new queue."""
    marks = [keys.dead_letter, keys.consumers, keys.delayed, keys.pending, keys.processing("")]
    against: bytes = _AGREE(client, [keys.protocol], [PROTOCOL, *marks])
    if against:
        raise OtherProtocol(
            f"The queue {keys.namespace!r} was written by a release of another protocol than {PROTOCOL} "
            f"({against.decode(errors='backslashreplace')}): drain it with that release, or choose another namespace."
        )


def refuse_at_start(config: Config) -> None:
    """Refuse a server that is too old for the queue, or a queue of another protocol, if the server answers at once.

    Raises:
        ConfigError: the server is too old, or the URL cannot be used.
        OtherProtocol: the queue has another protocol; the text names the key that shows it.
    """
    refuse_old_server(config)
    with (
        connect(config, connections=1, timeout_s=ASK_TIMEOUT_S) as client,
        suppress(redis.RedisError),  # checked again before the first task
    ):
        refuse_other_protocol(client, Keys(config.namespace))
