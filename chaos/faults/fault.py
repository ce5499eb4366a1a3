"""What a fault is: it threatens, it is injected, it is seen to have taken effect, it is healed."""

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from chaos.processes import Managed
from chaos.servers import Server
from chaos.tail import LedgerTail
from chaos.workers import WorkerPool


POLL_S = 0.02


class Missed(Exception):
    """The fault did not take effect; the text says why, in a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """How the fault was seen to take effect. `evidence` is a sentence; `tasks` were in flight when it hit `pids`."""

    evidence: str
    pids: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a fault can lay its hands on."""

    server: Server
    workers: WorkerPool
    ledger: LedgerTail
    random: random.Random
    """Seeded from the run's seed and the fault's number."""
    wait: Callable[[float], None]
    """Sleeps so many seconds; raises at once when the run is being stopped."""


@dataclass(frozen=True, kw_only=True)
class Fault(ABC):
    """One fault. Its fields are its options on the command line: `name:field=value`. `count`: how often it is planned."""

    name: ClassVar[str]
    threatens: ClassVar[tuple[str, ...]]
    """The numbers of the invariants that a queue may break under it."""
    count: ClassVar[int] = 1
    """How often it is planned when nobody says."""

    @abstractmethod
    def inject(self, stage: Stage) -> Effect:
        """Do it, and see that it took effect. Raises Missed if it did not."""

    def heal(self, stage: Stage) -> None:  # noqa: B027 - many faults leave nothing to heal
        """Bring back what it took. Called after `inject`, whatever came of it."""

    @classmethod
    def summary(cls) -> str:
        """The first line of its docstring."""
        return (cls.__doc__ or "").strip().partition("\n")[0]


def busy_worker(stage: Stage, patience_s: float) -> Managed:
    """A worker that is inside a task's body, as the ledger shows; any of them. Raises Missed: none within the time."""
    give_up_s = time.monotonic() + patience_s
    while time.monotonic() < give_up_s:
        stage.ledger.poll()
        busy = [worker for worker in stage.workers.living() if stage.ledger.open_in_session(worker.sid)]
        if busy:
            return stage.random.choice(busy)
        stage.wait(POLL_S)
    raise Missed(f"No worker was seen inside a task within {patience_s:g} s.")
