"""Mutants that begin tasks too soon, too late, or in the wrong turn."""

from zeroloss.reference.queue import enqueuer
from zeroloss.reference.queue.enqueuing import push
from zeroloss.reference.queue.task import PRIORITIES

from .mutant import mutant
from .patching import edit, patch
from .profiles import DEFAULT, VARIED


@mutant(expects="PRIORITIES", breaks="I7", profile=DEFAULT)
def priorities_ignored() -> None:
    """Every task is pushed with the default priority."""
    patch(push, "PRIORITIES", dict.fromkeys(PRIORITIES, "d"))


@mutant(expects="DELAYS", breaks="I4", profile=VARIED)
def schedule_ignored() -> None:
    """A scheduled task is pushed at once."""
    edit(enqueuer, "ENQUEUE", "if time and time > now then", "if false then")


@mutant(expects=("STARTS_WHEN_IDLE", "STUCK"), breaks="I4", profile=VARIED)
def scheduled_for_later() -> None:
    """A task is scheduled for ten seconds later than was asked for."""
    edit(enqueuer, "ENQUEUE", "now + string.sub(at, 2)", "now + 10000 + string.sub(at, 2)")
