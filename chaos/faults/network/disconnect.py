"""Disconnection of the server's container from its network."""

from dataclasses import dataclass
from typing import ClassVar

import redis

from ...history import Aim
from ...system.servers import NoNetwork
from ..base import Effect, Fault, Missed, Stage
from ..registry import fault
from .base import Victims


@fault
@dataclass(frozen=True, kw_only=True)
class NetDisconnect(Fault):
    """Disconnects the server's container from its network (I1, I2, I4, I8).

    How the engine publishes its ports decides whether connections end or fall silent, and whether new ones are refused
    or get no answer. The server itself runs on, and executes the commands that it has received.
    https://docs.docker.com/reference/cli/docker/network/disconnect/
    """

    name: ClassVar[str] = "net-disconnect"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I4", "I8")
    aims_at: ClassVar[Aim] = "network"
    everywhere: ClassVar[bool] = True
    in_container: ClassVar[bool] = True

    for_s: float = 0.0
    """Duration, in seconds; 0: 1.5 times the time that the target takes to recover a task, plus 1 s."""
    patience_s: float = 10.0
    """Maximum wait for a worker inside a task, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        victims = Victims(stage, "all", self.patience_s)
        for_s = self.for_s or 1.5 * stage.recover_within_s + 1.0
        before = stage.server.run_id()
        try:
            stage.server.disconnect()
        except NoNetwork:
            raise Missed("This fault needs a server in a container: use --redis container.") from None
        try:
            answer = stage.server.run_id()
        except redis.RedisError as error:
            answer, said = "", str(error).rstrip(".")
        victims.watch(for_s)
        stage.server.reconnect()
        after = stage.server.run_id()
        if answer or before != after:
            raise Missed(f"The server's run_id was {before}, then {answer or 'unavailable'}, and then {after}.")
        return victims.effect(
            f"The server ({before[:8]}) was off its network for {for_s:.3g} s, a request failed with {said!r}, and "
            "it is the same afterwards."
        )

    def heal(self, stage: Stage) -> None:
        stage.server.reconnect()
