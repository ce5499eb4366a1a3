"""SCRIPT FLUSH."""

from dataclasses import dataclass
from typing import ClassVar

from ...history import Aim
from ..base import Effect, Fault, Missed, Stage, errors_answered, how_many, server_client
from ..registry import fault


@fault
@dataclass(frozen=True, kw_only=True)
class ScriptFlush(Fault):
    """Sends SCRIPT FLUSH, again and again (I1, I2).

    The server then answers EVALSHA with NOSCRIPT and executes nothing: the client must send the script's source.
    https://redis.io/docs/latest/commands/script-flush/
    """

    name: ClassVar[str] = "script-flush"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2")
    aims_at: ClassVar[Aim] = "server"
    everywhere: ClassVar[bool] = True
    count: ClassVar[int] = 5

    times: int = how_many(20)
    """Number of flushes."""
    every_s: float = 0.05
    """Seconds between two flushes."""

    def inject(self, stage: Stage) -> Effect:
        tasks, forgotten, answered = tuple(stage.ledger.open_tasks()), 0, 0
        with server_client(stage) as client:
            before = errors_answered(client, "NOSCRIPT")
            for _ in range(self.times):
                forgotten += int(client.info("memory").get("number_of_cached_scripts", 0))
                client.script_flush("SYNC")
                stage.wait(self.every_s)
            answered = errors_answered(client, "NOSCRIPT") - before
        if not forgotten:
            raise Missed("The server had no script cached at any SCRIPT FLUSH.")
        return Effect(
            evidence=f"The server forgot {forgotten} scripts in {self.times} times, and answered NOSCRIPT "
            f"{answered} times.",
            tasks=tasks,
        )
