"""SIGTERM of the server."""

from dataclasses import dataclass
from typing import ClassVar

from ...history import ServerEnd
from ..base import Effect, Stage, restart_server
from ..registry import fault
from .base import ServerFault


@fault
@dataclass(frozen=True, kw_only=True)
class ServerSigterm(ServerFault):
    """Sends SIGTERM to the server and starts it again on the same data (I1, I2, I6).

    It persists its data before it exits. Data that it never persists is lost, as are its scripts and connections.
    """

    name: ClassVar[str] = "server-sigterm"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I6")
    ends_server: ClassVar[ServerEnd] = "stopped"
    count: ClassVar[int] = 3

    down_s: float = 1.0
    """Seconds until it is started again."""

    def inject(self, stage: Stage) -> Effect:
        return restart_server(stage, stage.server.stop, 0, self.down_s)
