"""Injects the planned faults, one after the other, and records whether they took effect."""

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from ..faults import Effect, Fault, Missed, Stage
from ..history.tail import LedgerTail
from ..plan.plan import Plan
from ..plan.requests import build_fault
from ..system.servers import Server
from ..system.workers import WorkerPool


class Records(Protocol):
    """What the nemesis needs of a Recorder."""

    def record(self, kind: str, phase: str, **members: Any) -> Any: ...


class Stopped(Exception):
    """The run is being ended while a fault waited."""


@dataclass(slots=True)
class Score:
    """How far it is, for whoever shows progress."""

    planned: int
    effective: int = 0
    missed: int = 0
    mid_task: int = 0


class Nemesis(threading.Thread):
    """A thread that carries out a plan's faults. `failure`: what ended it before its time."""

    def __init__(
        self,
        plan: Plan,
        *,
        server: Server,
        workers: WorkerPool,
        ledger: LedgerTail,
        recorder: Records,
        **more: Any,
    ) -> None:
        """`more`: the members of a Stage that not every stage has."""
        super().__init__(name="nemesis", daemon=True)
        self._plan = plan
        self._server, self._workers, self._ledger, self._recorder = server, workers, ledger, recorder
        self._more = more
        self._stopping = threading.Event()
        self._struck: frozenset[str] = frozenset()
        self.score = Score(planned=len(plan.faults))
        self.failure: BaseException | None = None
        self.begun: list[Fault] = []
        """The faults that were begun."""

    def stop(self) -> None:
        """Inject no more, and end. What is under way is healed first."""
        self._stopping.set()

    def run(self) -> None:
        begun_s = time.monotonic()
        try:
            for planned in self._plan.faults:
                self._wait(planned.at_s - (time.monotonic() - begun_s))
                draw = random.Random(f"fault:{self._plan.seed}:{planned.number}")
                stage = Stage(
                    server=self._server,
                    workers=self._workers,
                    ledger=self._ledger,
                    random=draw,
                    wait=self._wait,
                    behaving=self._plan.behaving,
                    struck=lambda: self._struck,
                    **self._more,
                )
                self._strike(build_fault(planned.fault, planned.options), planned.number, stage)
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - it must reach the run, whatever it is
            self.failure = error

    def _strike(self, fault: Fault, number: int, stage: Stage) -> None:
        name = fault.name
        self.begun.append(fault)
        self._recorder.record("fault", "begin", fault=name, number=number, traits=msgspec.to_builtins(fault.traits()))
        try:
            effect = fault.inject(stage)
            self._note(fault, effect)
            self._recorder.record(
                "fault",
                "effective",
                fault=name,
                number=number,
                evidence=effect.evidence,
                pids=_listed(effect.pids),
                tasks=_listed(effect.tasks),
            )
        except Missed as missed:
            self.score.missed += 1
            self._recorder.record("fault", "missed", fault=name, number=number, reason=str(missed))
        finally:
            fault.heal(stage)
            self._recorder.record("fault", "end", fault=name, number=number)

    def _note(self, fault: Fault, effect: Effect) -> None:
        self.score.effective += 1
        if effect.pids:
            self._struck |= set(effect.tasks)
        if effect.tasks and fault.aims_at == "worker":
            self.score.mid_task += 1

    def _wait(self, seconds: float) -> None:
        if self._stopping.wait(max(0.0, seconds)):
            raise Stopped


def _listed(items: Sequence[Any]) -> list[Any] | None:
    return list(items) or None
