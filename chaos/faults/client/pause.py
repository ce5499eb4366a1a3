"""CLIENT PAUSE."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from ...history import Aim
from ..base import SERVER_TIMEOUT_S, Brought, Effect, Fault, InFlight, InMix, Missed, Stage, server_client
from ..registry import fault

SLACK = 0.8
"""Least share of the pause that the probe must wait: it is sent shortly after the pause began."""


@fault
@dataclass(frozen=True, kw_only=True)
class ClientPause(Fault):
    """Sends CLIENT PAUSE: the server delays all commands for seconds (I1, I4, I8).

    Commands are not lost, only late: some clients have stopped waiting for the reply by then.
    https://redis.io/docs/latest/commands/client-pause/
    """

    name: ClassVar[str] = "client-pause"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I4", "I8")
    aims_at: ClassVar[Aim] = "server"
    needs_one_server: ClassVar[bool] = True
    in_mix: ClassVar[InMix] = "drawn"
    everywhere: ClassVar[bool] = True
    brings: ClassVar[Mapping[Brought, int]] = {"lasting": 8}
    count: ClassVar[int] = 2

    for_s: float = 3.0
    """Duration, in seconds."""
    mode: Literal["ALL", "WRITE"] = "ALL"
    """Whether the server delays all commands, or only those that may write."""

    def inject(self, stage: Stage) -> Effect:
        in_flight = InFlight(stage)
        with server_client(stage, self.for_s + SERVER_TIMEOUT_S) as client:
            client.execute_command("CLIENT", "PAUSE", round(self.for_s * 1000), self.mode)
            sent_s = time.monotonic()
            # A write that changes no key: it waits in either mode.
            client.publish("zeroloss:probe", "")
            waited_s = time.monotonic() - sent_s
        if waited_s < self.for_s * SLACK:
            raise Missed(f"A PUBLISH sent into the pause was answered after {waited_s:.2f} s already.")
        return Effect(
            evidence=f"A PUBLISH sent into the pause was answered after {waited_s:.2f} s.", tasks=in_flight.tasks()
        )
