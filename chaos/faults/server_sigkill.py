"""SIGKILL of the server."""

from dataclasses import dataclass
from signal import SIGKILL
from typing import ClassVar

from .fault import Effect, Fault, InFlight, Missed, Stage


@dataclass(frozen=True, kw_only=True)
class ServerSigkill(Fault):
    """SIGKILLs the server and starts it again on the same data (I1, I2, I6).

    What was acknowledged and not yet in the append-only file is gone; see the run's durability. The kernel survives, so
    this says nothing about a power cut.
    """

    name: ClassVar[str] = "server-sigkill"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I6")
    count: ClassVar[int] = 3

    down_s: float = 1.0
    """How long it stays away."""

    def inject(self, stage: Stage) -> Effect:
        before, in_flight = stage.server.run_id(), InFlight(stage)
        status = stage.server.kill()
        stage.wait(self.down_s)
        stage.server.start()
        after = stage.server.run_id()
        if status != -SIGKILL or after == before:
            raise Missed(f"The server exited with status {status}, and its run_id was {before} and then {after}.")
        return Effect(
            evidence=f"The server exited with status -9, was away for {self.down_s:g} s, and its run_id changed from "
            f"{before[:8]} to {after[:8]}.",
            tasks=in_flight.tasks(),
        )

    def heal(self, stage: Stage) -> None:
        if not stage.server.running:
            stage.server.start()
