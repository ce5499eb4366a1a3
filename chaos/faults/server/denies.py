"""A command that is not allowed."""

import time
from dataclasses import dataclass
from typing import Any, ClassVar

from ..base import Effect, InFlight, Missed, Stage, server_client
from ..registry import fault
from .base import ServerFault

USER = "default"
POLL_S = 0.05


@fault
@dataclass(frozen=True, kw_only=True)
class ServerDenies(ServerFault):
    """Denies one command by the access list, for seconds, as a mistake in it does (I1, I2).

    A script that sends it breaks off there: what came before it stays done. The command is denied until it was sent
    once, and then for a while. https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
    """

    name: ClassVar[str] = "server-denies"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2")
    count: ClassVar[int] = 2

    command: str = "xadd"
    """The command, in any case; one that the queue does not send takes no effect."""
    for_s: float = 2.0
    """How long it stays denied once it was."""
    patience_s: float = 10.0
    """How long to wait until it is sent."""

    def inject(self, stage: Stage) -> Effect:
        in_flight = InFlight(stage)
        with server_client(stage) as client:
            before = _denied(client)
            client.execute_command("ACL", "SETUSER", USER, f"-{self.command}")
            try:
                give_up_s = time.monotonic() + self.patience_s
                while _denied(client) == before and time.monotonic() < give_up_s:
                    stage.wait(POLL_S)
                if _denied(client) > before:
                    stage.wait(self.for_s)
            finally:
                client.execute_command("ACL", "SETUSER", USER, f"+{self.command}")
            denied = _denied(client) - before
        if not denied:
            raise Missed(f"Nobody sent {self.command.upper()} within {self.patience_s:g} s.")
        return Effect(
            evidence=f"The server denied {self.command.upper()} {denied} times within {self.for_s:g} s.",
            tasks=in_flight.tasks(),
        )


def _denied(client: Any) -> int:
    """How often it has answered NOPERM so far."""
    return int(client.info("errorstats").get("errorstat_NOPERM", {}).get("count", 0))
