"""SIGKILL of the producer."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from signal import SIGKILL
from typing import ClassVar

import psutil

from ...history import Aim
from ...system.processes import Managed
from ..base import POLL_S, Brought, Effect, Fault, Missed, Stage
from ..registry import fault

LOOKS_S, HELD_S = 1.0, 1.5
"""Seconds in which the producer is stopped for single looks only, and for which it is stopped from then on: one that
answers between two looks has no submission in flight at a look, but cannot answer what comes while it is stopped."""


@fault
@dataclass(frozen=True, kw_only=True)
class ProducerSigkill(Fault):
    """SIGKILLs the target's producer during submissions, and starts it again (I2, I6, I8).

    A client that waits for its answer can't know whether the task was accepted: its submission is recorded as unknown.
    If it is repeated with the same idempotency key, the two must be one task.
    """

    name: ClassVar[str] = "producer-sigkill"
    threatens: ClassVar[tuple[str, ...]] = ("I2", "I6", "I8")
    aims_at: ClassVar[Aim] = "producer"
    moves_producer: ClassVar[bool] = True
    brings: ClassVar[Mapping[Brought, int]] = {"plain": 16}
    count: ClassVar[int] = 3

    down_s: float = 0.3
    """Seconds until it is started again."""
    patience_s: float = 10.0
    """Maximum wait for a submission in flight, in seconds."""

    def inject(self, stage: Stage) -> Effect:
        producer = stage.producer
        if producer is None:
            raise Missed("This target has no producer of its own.")
        begun_s = time.monotonic()
        while time.monotonic() < begun_s + self.patience_s:
            process = producer.process
            process.stop_session_members()
            go_on_s = time.monotonic() + (HELD_S if time.monotonic() > begun_s + LOOKS_S else 0.0)
            while not (under_way := self.under_way(stage)) and time.monotonic() < go_on_s:
                stage.wait(POLL_S)
            if under_way:
                return self._kill(stage, under_way)
            process.continue_session_members()
            stage.wait(POLL_S)
        raise Missed(f"No submission was under way within {self.patience_s:g} s.")

    def under_way(self, stage: Stage) -> str:
        """Describe the submissions in flight in the stopped producer, with a verb, for the evidence. Empty if none."""
        count = stage.under_way()
        return f"{count} submissions were" if count > 1 else "a submission was" if count else ""

    def _kill(self, stage: Stage, under_way: str) -> Effect:
        assert stage.producer is not None
        status = stage.producer.kill()
        stage.wait(self.down_s)
        if status != -SIGKILL:
            raise Missed(f"The producer had ended by itself, with status {status}, before it was killed.")
        return Effect(evidence=f"The producer exited with status -9 while {under_way} under way.")

    def heal(self, stage: Stage) -> None:
        if not stage.producer:
            return
        stage.producer.start()
        give_up_s = time.monotonic() + self.patience_s
        while not _listens(stage.producer.process) and time.monotonic() < give_up_s:
            stage.wait(POLL_S)


def _listens(process: Managed) -> bool:
    """Return whether the producer listens on a TCP port; until it does, no submission can be in flight in it."""
    for pid in process.members():
        try:
            connections = psutil.Process(pid).net_connections("tcp")
        except psutil.Error:
            continue
        if any(connection.status == psutil.CONN_LISTEN for connection in connections):
            return True
    return False
