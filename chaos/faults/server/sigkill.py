"""SIGKILL of the server."""

from dataclasses import dataclass
from signal import SIGKILL
from typing import ClassVar

from ...history import ServerEnd
from ..base import Effect, InMix, Stage, restart_server
from ..registry import fault
from .base import ServerFault


@fault
@dataclass(frozen=True, kw_only=True)
class ServerSigkill(ServerFault):
    """SIGKILLs the server and starts it again on the same data (I1, I2, I6).

    Acknowledged writes that are not in the append-only file yet are lost; see the run's durability. The kernel
    survives, so this does not test a power cut.
    """

    name: ClassVar[str] = "server-sigkill"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I6")
    ends_server: ClassVar[ServerEnd] = "killed"
    in_mix: ClassVar[InMix] = "drawn"
    count: ClassVar[int] = 3

    down_s: float = 1.0
    """Seconds until it is started again."""

    def inject(self, stage: Stage) -> Effect:
        return restart_server(stage, stage.server.kill, -SIGKILL, self.down_s)
