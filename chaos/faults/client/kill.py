"""CLIENT KILL of all connections, again and again."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ...history import Aim
from ..base import Brought, Effect, Fault, InFlight, InMix, Missed, Stage, server_client
from ..registry import fault


@fault
@dataclass(frozen=True, kw_only=True)
class ClientKill(Fault):
    """Sends CLIENT KILL for all clients, many times a second (I1, I2, I8).

    A command in flight is lost before it is executed, or its reply is lost. Between two commands that should be one
    atomic step, the cut acts like a crash. https://redis.io/docs/latest/commands/client-kill/
    """

    name: ClassVar[str] = "client-kill"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2", "I8")
    aims_at: ClassVar[Aim] = "server"
    needs_one_server: ClassVar[bool] = True
    in_mix: ClassVar[InMix] = "drawn"
    everywhere: ClassVar[bool] = True
    cuts: ClassVar[bool] = True
    count: ClassVar[int] = 5
    ends_mix: ClassVar[int] = 6
    ends_mix_options: ClassVar[Mapping[str, Any]] = {"for_s": 0.1, "every_s": 0.2}
    """One or two cuts each, which show what clients leak or give up when they lose their connections."""
    brings: ClassVar[Mapping[Brought, int]] = {"long": 1, "lasting": 4}

    for_s: float = 1.0
    """Duration, in seconds."""
    every_s: float = 0.002
    """Average seconds between two cuts. A fixed interval could hit a client at the same command every time."""

    def inject(self, stage: Stage) -> Effect:
        in_flight, killed = InFlight(stage), 0
        since_t, until_s = time.monotonic_ns(), time.monotonic() + self.for_s
        with server_client(stage) as client:
            while time.monotonic() < until_s:
                for kind in ("normal", "pubsub"):
                    killed += int(client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes"))
                stage.wait(stage.random.expovariate(1 / self.every_s) if self.every_s else 0.0)
        if not killed:
            raise Missed("No client was connected.")
        return Effect(
            evidence=f"The server cut {killed} connections within {self.for_s:g} s.",
            tasks=in_flight.tasks(),
            lasted=(since_t, time.monotonic_ns()),
        )
