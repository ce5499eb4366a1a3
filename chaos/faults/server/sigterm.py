"""SIGTERM of the server."""

from dataclasses import dataclass
from typing import ClassVar

from ..base import Effect, Fault, Stage, restart_server


@dataclass(frozen=True, kw_only=True)
class ServerSigterm(Fault):
    """Lets the server end in order and starts it again on the same data (I1, I2, I6).

    It writes down what it keeps before it goes: only what it keeps nowhere is gone. Its scripts and clients are, too.
    """

    name: ClassVar[str] = "server-sigterm"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I6")
    everywhere: ClassVar[bool] = True
    count: ClassVar[int] = 3

    down_s: float = 1.0
    """How long it stays away."""

    def inject(self, stage: Stage) -> Effect:
        return restart_server(stage, stage.server.stop, 0, self.down_s)

    def heal(self, stage: Stage) -> None:
        if not stage.server.running:
            stage.server.start()
