"""SIGKILL of a primary; a replica takes its place."""

from dataclasses import dataclass
from typing import ClassVar

from ...history import Aim, ServerEnd
from ...system.servers import SentinelServer
from ..base import Effect, Fault, Stage
from ..registry import fault
from .base import bring_back, fail_over


@fault
@dataclass(frozen=True, kw_only=True)
class PrimarySigkill(Fault):
    """SIGKILLs the primary for good: Sentinel promotes a replica, and clients follow (I1, I2, I3).

    Writes that it acknowledged but had not sent to the replica are lost. It is started again as a replica.
    """

    name: ClassVar[str] = "primary-sigkill"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I3")
    aims_at: ClassVar[Aim] = "server"
    ends_server: ClassVar[ServerEnd] = "killed"
    everywhere: ClassVar[bool] = True
    fails_over: ClassVar[bool] = True

    patience_s: float = 20.0
    """Maximum wait for the promotion of a replica, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        def strike(server: SentinelServer) -> str:
            return f"The primary exited with status {server.kill()}"

        return fail_over(stage, strike, follow_after_s=0.0, patience_s=self.patience_s)

    def heal(self, stage: Stage) -> None:
        bring_back(stage)
