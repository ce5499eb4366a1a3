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

    A terminal signals all processes of a group, and the parent may pass it on, so that a child is signalled twice.
    Without a handler it is KeyboardInterrupt in the middle of whatever the main thread does.
    """

    name: ClassVar[str] = "worker-sigint"
    in_mix: ClassVar[InMix] = "no"
    signal: ClassVar[Signals] = SIGINT

    to_all: bool = True
    """Whether every process of its session is signalled, and not the one alone that was started."""
