"""Redis cuts the connections of all its clients, again and again."""

import time
from dataclasses import dataclass
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .fault import Effect, Fault, Missed, Stage

TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class ClientKill(Fault):
    """A storm of CLIENT KILL: each client loses its connection many times a second (I1, I2, I8).

    A command in flight is lost before it is executed, or its reply is. Between two commands of what should have been
    one step, it is a crash in the middle. https://redis.io/docs/latest/commands/client-kill/
    """

    name: ClassVar[str] = "client-kill"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I8")
    count: ClassVar[int] = 5

    for_s: float = 1.0
    """How long the storm lasts."""
    every_s: float = 0.002
    """From one gust to the next."""

    def inject(self, stage: Stage) -> Effect:
        client = redis.Redis.from_url(stage.server.url, retry=Retry(NoBackoff(), 0), socket_timeout=TIMEOUT_S)
        killed = 0
        tasks = tuple(stage.ledger.open_tasks())
        until_s = time.monotonic() + self.for_s
        try:
            while time.monotonic() < until_s:
                killed += int(client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
                stage.wait(self.every_s)
        except redis.RedisError as error:
            raise Missed(f"The server refused or was away: {error}.") from None
        finally:
            client.close()
        if not killed:
            raise Missed("No client was connected.")
        return Effect(evidence=f"The server cut {killed} connections within {self.for_s:g} s.", tasks=tasks)
