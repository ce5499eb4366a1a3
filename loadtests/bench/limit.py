"""The limit of the server itself: the queue's cycle as one script, 64 tasks a call, over one connection.

The client does as little as possible: it counts the tasks of a reply, and does not parse them.
"""

import socket
import time

import redis

from .backlog import PENDING, elements, stage
from .context import Context

BATCH = 64

# KEYS  processing, pending, counters
# ARGV  limit, the first number to use; the `limit` numbers before it are done
# Returns the claimed entries
_CYCLE = """
local limit, number = tonumber(ARGV[1]), tonumber(ARGV[2])
local done = 0
for i = number - limit, number - 1 do done = done + redis.call('HDEL', KEYS[1], i) end
if done > 0 then redis.call('HINCRBY', KEYS[3], 'completed', done) end
local claimed = redis.call('RPOP', KEYS[2], limit) or {}
local fields = {}
for i, entry in ipairs(claimed) do
  fields[2 * i - 1] = number + i - 1
  fields[2 * i] = entry
end
if #claimed > 0 then redis.call('HSET', KEYS[1], unpack(fields)) end
return claimed
"""


def rate(context: Context) -> float:
    """Measure the limit, in tasks/s."""
    client = context.empty_server()
    batches = context.tasks // BATCH
    stage(client, batches * BATCH, key=PENDING)
    digest = client.script_load(_CYCLE)
    size = len(next(elements(1)))
    reply_bytes = len(_array(BATCH)) + BATCH * len(_bulk(b"x" * size))
    body = memoryview(bytearray(reply_bytes))
    with socket.create_connection(("127.0.0.1", context.server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        for batch in range(batches):
            connection.sendall(_request(digest, batch * BATCH + 1))
            _fill(connection, body)
        seconds = time.perf_counter() - began
    done = int(client.hget("tasks:counters", "completed") or 0)
    if done != (batches - 1) * BATCH:
        raise redis.ResponseError(f"the server counted {done} tasks of {(batches - 1) * BATCH}")
    return done / seconds


def _request(digest: str, number: int) -> bytes:
    words = ["EVALSHA", digest, "3", "tasks:processing:limit", PENDING, "tasks:counters", str(BATCH), str(number)]
    return _array(len(words)) + b"".join(_bulk(word.encode()) for word in words)


def _array(length: int) -> bytes:
    return b"*%d\r\n" % length


def _bulk(text: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(text), text)


def _fill(connection: socket.socket, buffer: memoryview) -> None:
    position = 0
    while position < len(buffer):
        received = connection.recv_into(buffer[position:])
        if not received:
            raise ConnectionError("the server closed the connection")
        position += received
