"""Base class of the faults of the server: they affect all processes, and `heal` starts the server again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ...history import Aim
from ..base import Brought, Fault, Stage


@dataclass(frozen=True, kw_only=True)
class ServerFault(Fault):
    """Base of the faults that need a single server which the harness started."""

    aims_at: ClassVar[Aim] = "server"
    everywhere: ClassVar[bool] = True
    brings: ClassVar[Mapping[Brought, int]] = {"lasting": 8}
    needs_own_server: ClassVar[bool] = True
    needs_one_server: ClassVar[bool] = True

    def heal(self, stage: Stage) -> None:
        if not stage.server.running:
            stage.server.start()
