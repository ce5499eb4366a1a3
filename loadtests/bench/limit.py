"""What the server itself can do: the same cycle as a script, 64 tasks a call, over one connection.

The client does as little as can be: the tasks of a reply are, byte for byte, the arguments of the next request, so it
sends them back without having looked at them.
"""

import socket
import time

import redis

from .backlog import PENDING, elements, stage
from .context import Context

BATCH = 64

# KEYS  processing, pending, counters
# ARGV  limit, then the elements that are done
# Returns what it claimed
_CYCLE = """
for i = 2, #ARGV do redis.call('LREM', KEYS[1], -1, ARGV[i]) end
if #ARGV > 1 then redis.call('HINCRBY', KEYS[3], 'completed', #ARGV - 1) end
local claimed = redis.call('RPOP', KEYS[2], ARGV[1])
if claimed then redis.call('LPUSH', KEYS[1], unpack(claimed)) end
return claimed or {}
"""


def rate(context: Context) -> float:
    """Tasks/s."""
    client = context.empty_server()
    batches = context.tasks // BATCH
    stage(client, batches * BATCH, key=PENDING)
    digest = client.script_load(_CYCLE)
    size = len(next(elements(1)))
    reply_bytes = len(_array(BATCH)) + BATCH * len(_bulk(b"x" * size))
    first, rest = _request(digest, 0), _request(digest, BATCH)
    body = memoryview(bytearray(reply_bytes))
    tasks = body[len(_array(BATCH)) :]
    with socket.create_connection(("127.0.0.1", context.server.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        began = time.perf_counter()
        connection.sendall(first)
        _fill(connection, body)
        for _ in range(batches - 1):
            connection.sendall(rest + tasks)
            _fill(connection, body)
        seconds = time.perf_counter() - began
    done = int(client.hget("tasks:counters", "completed") or 0)
    if done != (batches - 1) * BATCH:
        raise redis.ResponseError(f"the server counted {done} tasks of {(batches - 1) * BATCH}")
    return done / seconds


def _request(digest: str, done: int) -> bytes:
    """The call, up to the tasks that are done."""
    words = ["EVALSHA", digest, "3", "tasks:processing:limit", PENDING, "tasks:counters", str(BATCH)]
    return _array(len(words) + done) + b"".join(_bulk(word.encode()) for word in words)


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
