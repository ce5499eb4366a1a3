"""Presence: a subscription by which Redis notices the death of a process, as it ends with the process's connection.

A lease shows that a process is dead only when it has ended. But a killed process loses its connections at once, and a
live process that can reach Redis reconnects within moments. So a worker stays subscribed to a channel of its own, on
which nothing is ever published, and `PUBSUB NUMSUB` counts the subscribers. A sweep that has seen no subscriber for
`absence_ms` ends the lease early (see `Reaper`). A worker that merely lost its connection notices at once, since it was
reading from it, and is back before that.

Presence is recorded with the server's run id. After a restart or a failover a consumer counts as absent only after its
subscription was recorded on this server; until then only leases count. The same holds for a worker that is paused, or
cut off without the server noticing: it keeps its subscription.

https://redis.io/docs/latest/commands/pubsub-numsub/
"""

import random
import threading
import time
from contextlib import suppress
from typing import Any

import redis

from ..queue.config import Config
from ..queue.connection import Script, borrowed, close_alone, is_outdated
from ..queue.keys import Keys
from ..queue.reaper import Refusal

RETURN_S = 0.1  # pause between attempts to reconnect: well within any sensible `absence_ms`
UNMARKED_S = 0.05  # pause before a worker that is not registered yet checks again

# KEYS  consumers, presence
# ARGV  consumer, its channel
# Returns 1 if the consumer is registered and subscribed on this server; its presence is recorded then
_MARK = Script("""#!lua flags=allow-oom
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
if redis.call('PUBSUB', 'NUMSUB', ARGV[2])[2] == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], string.match(redis.call('INFO', 'server'), 'run_id:(%x+)'))
return 1
""")


class Presence(threading.Thread):
    """Keeps one consumer subscribed while the process lives."""

    def __init__(self, client: redis.Redis, config: Config, consumer: str) -> None:
        super().__init__(name="presence", daemon=True)
        self._client, self._consumer, self._keys = client, consumer, Keys(config.namespace)
        self._channel = self._keys.presence_channel(consumer)
        self._ping_s = config.renew_ms / 1000
        self._refusal = Refusal("Redis refuses to see that this worker lives; until it does the lease counts")

    def run(self) -> None:
        while True:
            try:
                with borrowed(self._client) as connection:
                    try:
                        self._stay(connection)
                    finally:
                        close_alone(connection)  # it is subscribed, so not reusable
            except redis.ResponseError as error:
                self._refusal.say(error)
                with suppress(redis.RedisError):  # without a subscription an earlier mark would have it taken for dead
                    self._client.hdel(self._keys.presence, self._consumer)
                time.sleep(self._ping_s)
            except redis.RedisError:
                time.sleep(RETURN_S * random.uniform(0.5, 1.0))

    def _stay(self, connection: Any) -> None:
        connection.send_command("SUBSCRIBE", self._channel)
        connection.read_response()
        while not is_outdated(self._client, connection):
            waits = self._is_marked()  # each time: recovery of a worker taken for dead removes the mark
            if connection.can_read(timeout=self._ping_s if waits else UNMARKED_S):  # raises if the other end closed
                connection.read_response()
            elif waits:  # a firewall may have dropped the connection silently: both ends would wait forever
                connection.send_command("PING")
                connection.read_response()

    def _is_marked(self) -> bool:
        """Record the presence. Return False if the worker is not registered yet, so that this is tried again soon."""
        try:
            marks = [self._keys.consumers, self._keys.presence]
            return bool(_MARK(self._client, marks, [self._consumer, self._channel]))
        except redis.ResponseError as error:
            self._refusal.say(error)
            return True  # An earlier mark may count: without its subscription this worker would be taken for dead.
