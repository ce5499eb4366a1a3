"""SIGSTOP of the server."""

from dataclasses import dataclass
from typing import ClassVar

from ..base import Effect, Missed, Stage, busy_worker, server_client
from ..registry import fault
from .base import ServerFault

LOOK_S = 0.2


@fault
@dataclass(frozen=True, kw_only=True)
class ServerSigstop(ServerFault):
    """Freezes the server for longer than its clients wait (I1, I2, I8).

    Their commands stay in its sockets and are executed when the server resumes; the replies reach no client.
    """

    name: ClassVar[str] = "server-sigstop"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I8")
    count: ClassVar[int] = 1

    for_s: float = 8.0
    """Seconds for which it is stopped."""
    patience_s: float = 0.0
    """Maximum wait, in seconds, for a worker inside a task, so that workers have something to send; 0: no wait."""

    def inject(self, stage: Stage) -> Effect:
        if self.patience_s:
            busy_worker(stage, self.patience_s)
        before, tasks = stage.server.run_id(), tuple(stage.ledger.open_tasks())
        stage.server.pause()
        try:
            answered = _answers(stage)
            stage.wait(self.for_s)
        finally:
            stage.server.resume()
        after = stage.server.run_id()
        if answered or after != before:
            raise Missed(f"The server answered though it was stopped, or is another: {before[:8]}, then {after[:8]}.")
        return Effect(
            evidence=f"The server ({before[:8]}) answered no client for {self.for_s:g} s, and is the same afterwards.",
            tasks=tasks,
        )


def _answers(stage: Stage) -> bool:
    """Return whether the server answers a PING within `LOOK_S`."""
    try:
        with server_client(stage, LOOK_S) as client:
            return bool(client.ping())
    except Missed:
        return False
