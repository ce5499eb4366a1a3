"""What the faults of workers share: what they aim at, and that workers are started again after them."""

from dataclasses import dataclass
from typing import ClassVar

from ...history import Aim
from ..base import Fault, Stage


@dataclass(frozen=True, kw_only=True)
class WorkerFault(Fault):
    """Something is done to a worker while it is inside a task."""

    aims_at: ClassVar[Aim] = "worker"

    def heal(self, stage: Stage) -> None:
        stage.workers.start_missing()
