"""How safe a task must be before it is promised: `memory`, `fsync` or `replicas:N`.

    memory      Redis has acknowledged the task. Its loss in a crash depends on the server's appendfsync.
    fsync       The task is also on the primary's disk: `WAITAOF 1 0` (Redis 7.2, Valkey). An older server that fsyncs
                always writes the task before it answers, so that its answer is the confirmation.
    replicas:N  The task is also in the memory of N replicas: `WAIT N`.

`WAIT` and `WAITAOF` confirm the writes of their own connection. Redis does not report a shortfall as an error, so the
reply must be compared. See https://redis.io/docs/latest/commands/waitaof/ and .../commands/wait/
"""

import re
from dataclasses import dataclass
from typing import Any

import redis

from .errors import ConfigError, NotConfirmed

MEMORY, FSYNC = "memory", "fsync"
_REPLICAS = re.compile(r"replicas:([1-9][0-9]{0,2})", re.ASCII)
PROBE_MS = 1


@dataclass(frozen=True, slots=True)
class Durability:
    """A durability level, and the time limit in ms for reaching it. `replicas` is 0 unless the level names a number."""

    level: str
    timeout_ms: int

    def __post_init__(self) -> None:
        if self.level not in (MEMORY, FSYNC) and not _REPLICAS.fullmatch(self.level):
            raise ConfigError(f"durability must be memory, fsync or replicas:N, not {self.level!r}.")

    @property
    def replicas(self) -> int:
        found = _REPLICAS.fullmatch(self.level)
        return int(found[1]) if found else 0

    @property
    def immediate(self) -> bool:
        """Whether the server's plain answer satisfies the level."""
        return self.level == MEMORY

    def confirm(self, connection: Any) -> None:
        """Wait until the writes of `connection` are as safe as the level requires.

        Raises:
            NotConfirmed: the primary has the writes; whether they are safer than that is unknown.
        """
        try:
            reason = self._shortfall(connection, self.timeout_ms)
        except redis.RedisError as error:
            reason = f"Redis did not answer: {error}"
        if reason:
            raise NotConfirmed(self.level, reason)

    def why_out_of_reach(self, client: redis.Redis) -> str | None:
        """Return why the server cannot reach the level now, or None if it can.

        This uses a new connection, which wrote nothing: after a write the answer would take as long as a promise.

        Raises:
            redis.RedisError: the server does not answer.
        """
        pool: Any = client.connection_pool
        connection = pool.connection_class(**pool.connection_kwargs)
        try:
            return self._shortfall(connection, PROBE_MS)
        finally:
            connection.disconnect()

    def _shortfall(self, connection: Any, timeout_ms: int) -> str | None:
        try:
            if self.level == FSYNC:
                return _fsync_shortfall(connection, timeout_ms)
            if self.replicas:
                reached = _ask(connection, "WAIT", self.replicas, timeout_ms)
                if reached < self.replicas:
                    return f"{reached} of {self.replicas} replicas had it within {timeout_ms} ms"
        except redis.ResponseError as error:
            return f"Redis said: {error}"
        return None


def _fsync_shortfall(connection: Any, timeout_ms: int) -> str | None:
    try:
        local, _ = _ask(connection, "WAITAOF", 1, 0, timeout_ms)
    except redis.ResponseError as error:
        if "unknown command" not in str(error).lower():
            raise
        return _shortfall_without_waitaof(connection)
    return None if local else f"it was not on disk within {timeout_ms} ms"


def _shortfall_without_waitaof(connection: Any) -> str | None:
    """Check a server older than Redis 7.2: its answer is a confirmation only if it fsyncs before it answers."""
    flat = [_text(word) for word in _ask(connection, "CONFIG", "GET", "append*")]
    kept = dict(zip(flat[::2], flat[1::2], strict=True))
    if kept.get("appendonly") == "yes" and kept.get("appendfsync") == "always":
        return None
    return "this Redis has no WAITAOF, which came with 7.2, and does not fsync always"


def _ask(connection: Any, *command: Any) -> Any:
    connection.send_command(*command)
    return connection.read_response()


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)
