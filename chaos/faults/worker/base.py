"""What the faults of workers share: what they aim at, and that workers are started again after them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ...history import Aim
from ..base import Brought, Fault, Stage


@dataclass(frozen=True, kw_only=True)
class WorkerFault(Fault):
    """Something is done to a worker while it is inside a task."""

    aims_at: ClassVar[Aim] = "worker"
    brings: ClassVar[Mapping[Brought, int]] = {"lasting": 1}

    def heal(self, stage: Stage) -> None:
        stage.workers.start_missing()
