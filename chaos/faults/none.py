"""The baseline."""

from dataclasses import dataclass
from typing import ClassVar

from ..history import Aim
from .base import Effect, Fault, Missed, Stage
from .registry import fault


@fault
@dataclass(frozen=True, kw_only=True)
class NoFault(Fault):
    """Injects nothing: the baseline, without duplicates and first in, first out (I2, I6, I7)."""

    name: ClassVar[str] = "none"
    threatens: ClassVar[tuple[str, ...]] = ()
    aims_at: ClassVar[Aim] = "nothing"
    baseline: ClassVar[bool] = True

    def inject(self, stage: Stage) -> Effect:
        living = stage.workers.living()
        if len(living) < stage.workers.size:
            raise Missed(f"Only {len(living)} of {stage.workers.size} workers run, although nothing was injected.")
        return Effect(evidence=f"Nothing was injected; all {len(living)} workers run.")
