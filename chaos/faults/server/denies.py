"""A command that is not allowed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ..base import Brought, Effect, InFlight, Stage, errors_answered, server_client, wait_for
from ..registry import fault
from .base import ServerFault

USER = "default"


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
    brings: ClassVar[Mapping[Brought, int]] = {"given-up": 4}

    command: str = "xadd"
    """The command, in any case; one that the queue does not send takes no effect."""
    for_s: float = 2.0
    """How long it stays denied once it was."""
    patience_s: float = 20.0
    """How long to wait until it is sent."""

    def inject(self, stage: Stage) -> Effect:
        in_flight, command = InFlight(stage), self.command.upper()
        with server_client(stage) as client:

            def denied() -> int:
                return errors_answered(client, "NOPERM") - before

            before = errors_answered(client, "NOPERM")
            client.execute_command("ACL", "SETUSER", USER, f"-{self.command}")
            try:
                wait_for(stage, denied, self.patience_s, f"Nobody sent {command} within {self.patience_s:g} s.")
                stage.wait(self.for_s)
            finally:
                client.execute_command("ACL", "SETUSER", USER, f"+{self.command}")
            count = denied()
        return Effect(
            evidence=f"The server denied {command} {count} times within {self.for_s:g} s.", tasks=in_flight.tasks()
        )
