"""Mutants that begin tasks too soon, too late, or in the wrong turn."""

import re
from typing import Any

from zeroloss.reference.http import submissions
from zeroloss.reference.queue import enqueuer
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import TURNS
from zeroloss.reference.queue.enqueuing import push
from zeroloss.reference.queue.task import PRIORITIES

from .mutant import mutant
from .patching import edit, patch
from .profiles import DEFAULT, VARIED


@mutant(expects="PRIORITIES", breaks="I7", profile=DEFAULT)
def priorities_ignored() -> None:
    """Every task is pushed with the default priority."""
    patch(push, "PRIORITIES", dict.fromkeys(PRIORITIES, "d"))


@mutant(expects=("DELAYS", "STUCK"), breaks="I4", profile=VARIED)
def zone_ignored() -> None:
    """The time zone of a scheduled time is ignored: it is read as UTC."""

    def due_at(execute_at: Any) -> Any:
        return original(re.sub(r"[+-]\d\d:\d\d$", "Z", execute_at))

    original = patch(submissions, "due_at", due_at)


@mutant(expects=("STARTS_WHEN_IDLE", "STUCK"), breaks="I4", profile=VARIED)
def scheduled_for_later() -> None:
    """A scheduled task begins ten seconds later than requested."""
    edit(enqueuer, "ENQUEUE", "now + string.sub(at, 2)", "now + 10000 + string.sub(at, 2)")


@mutant(expects="LOWER_WITHIN", breaks="I7", profile=DEFAULT)
def turn_begins_anew() -> None:
    """The priority turns restart at each claim, so small claims never reach the lower priorities."""

    def settled(self: Any, number: int, reply: Any) -> Any:
        settlement = original(self, number, reply)
        self._turn = len(settlement.claimed) % TURNS
        return settlement

    original = patch(Consumer, "_settled", settled)
