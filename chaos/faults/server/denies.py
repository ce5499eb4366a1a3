"""A command denied by the access list."""

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
    """Denies one command through the server's ACL for seconds, like a mistake in the ACL (I1, I2).

    A script that calls it stops at that point, and its earlier writes stay. The fault lasts until the command was
    denied once, and for `for_s` after that. https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/
    """

    name: ClassVar[str] = "server-denies"
    threatens: ClassVar[tuple[str, ...]] = ("I1", "I2")
    count: ClassVar[int] = 2
    brings: ClassVar[Mapping[Brought, int]] = {"given-up": 4}

    command: str = "xadd"
    """The command, upper or lower case. The fault has no effect if the queue never sends it."""
    for_s: float = 2.0
    """Seconds for which it stays denied after the first denial."""
    patience_s: float = 20.0
    """Maximum wait for the first denial, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        in_flight, command = InFlight(stage), self.command.upper()
        with server_client(stage) as client:

            def denied() -> int:
                return errors_answered(client, "NOPERM") - before

            before = errors_answered(client, "NOPERM")
            client.execute_command("ACL", "SETUSER", USER, f"-{self.command}")
            try:
                wait_for(stage, denied, self.patience_s, f"No client sent {command} within {self.patience_s:g} s.")
                stage.wait(self.for_s)
            finally:
                client.execute_command("ACL", "SETUSER", USER, f"+{self.command}")
            count = denied()
        return Effect(
            evidence=f"The server denied {command} {count} times within {self.for_s:g} s.", tasks=in_flight.tasks()
        )
