"""Base class of the faults of workers: `heal` starts the missing workers again."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from ...history import Aim
from ..base import Brought, Fault, Stage


@dataclass(frozen=True, kw_only=True)
class WorkerFault(Fault):
    """Base of the faults that hit a worker, usually while it is inside a task."""

    aims_at: ClassVar[Aim] = "worker"
    brings: ClassVar[Mapping[Brought, int]] = {"lasting": 1}

    def heal(self, stage: Stage) -> None:
        stage.workers.start_missing()
