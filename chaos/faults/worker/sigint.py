"""SIGINT of a worker in the middle of a task."""

from dataclasses import dataclass
from signal import SIGINT, Signals
from typing import ClassVar

from ..base import InMix
from ..registry import fault
from .sigterm import WorkerSigterm


@fault
@dataclass(frozen=True, kw_only=True)
class WorkerSigint(WorkerSigterm):
    """Sends SIGINT to a worker inside a task, as Ctrl-C does, and waits until it has ended (I1, I2).

    A terminal signals all processes of a group, and the parent may forward the signal, so a child can get it twice.
    Without a signal handler, the main thread raises KeyboardInterrupt wherever it is.
    """

    name: ClassVar[str] = "worker-sigint"
    in_mix: ClassVar[InMix] = "no"
    signal: ClassVar[Signals] = SIGINT

    to_all: bool = True
    """Whether to signal every process of the session, in place of its first process only."""
