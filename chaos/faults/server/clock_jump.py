"""A wrong clock in one worker, for a while."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ...history import Aim
from ..base import Effect, Fault, Missed, Stage
from ..registry import fault

SHIM = Path(__file__).resolve().parents[2] / "system" / "shims" / "clock"
CLOCKS = "clock"
"""Name of the folder in the run's directory where the shim reads the shift."""


@fault
@dataclass(frozen=True, kw_only=True)
class ClockJump(Fault):
    """Sets a worker's wall clock an hour ahead or back, for seconds (I2, I3, I4).

    Restored snapshots and wrong time servers cause such jumps. A queue that compares clocks of several machines, or
    measures durations by the wall clock, mistakes live workers for dead ones, or the reverse. Only Python's
    `time.time` and `time.time_ns` are shifted.
    """

    name: ClassVar[str] = "clock-jump"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I3", "I4")
    aims_at: ClassVar[Aim] = "clock"
    everywhere: ClassVar[bool] = True
    count: ClassVar[int] = 4
    shim: ClassVar[Path | None] = SHIM

    by_s: float = 3_600.0
    """Size of the jump, in seconds; its direction is random."""
    for_s: float = 4.0
    """Duration of the jump, in seconds; should exceed the lease."""

    def prepare(self, directory: Path) -> None:
        (directory / CLOCKS).mkdir()

    def inject(self, stage: Stage) -> Effect:
        living = stage.workers.living()
        if not living or stage.directory is None:
            raise Missed("No worker runs.")
        worker = stage.random.choice(living)
        by_s = self.by_s * stage.random.choice((1, -1))
        clocks = stage.directory / CLOCKS
        tasks = tuple(stage.ledger.open_in_session(worker.sid))
        wrong = f"{by_s} {time.monotonic_ns()}"  # the time tells this jump from earlier ones of the same worker
        (clocks / f"{worker.sid}.new").write_text(wrong)
        (clocks / f"{worker.sid}.new").rename(clocks / str(worker.sid))
        stage.wait(self.for_s)
        said = [path.read_text() for path in clocks.glob(f"{worker.sid}.[0-9]*")]
        if not said:
            raise Missed(f"No process of worker {worker.sid} carries the clock that can be set; it must be Python.")
        return Effect(
            evidence=f"The clock of worker {worker.sid} was {abs(by_s):g} s {'ahead' if by_s > 0 else 'behind'} for "
            f"{self.for_s:g} s; {said.count(wrong)} of its {len(said)} processes read it meanwhile.",
            pids=tuple(worker.members()),
            tasks=tasks,
        )

    def heal(self, stage: Stage) -> None:
        if stage.directory is None:
            return
        for path in (stage.directory / CLOCKS).iterdir():
            if "." not in path.name:
                path.unlink()
