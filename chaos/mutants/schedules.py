"""Mutants that begin tasks too soon, too late, or in the wrong turn."""

import re
from dataclasses import replace
from typing import Any

from zeroloss.reference.http import submissions
from zeroloss.reference.queue import enqueuer, reaper
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import TURNS
from zeroloss.reference.queue.enqueuing import push
from zeroloss.reference.queue.task import PRIORITIES

from .mutant import mutant
from .patching import edit, patch
from .profiles import DEFAULT, PAUSED, VARIED


@mutant(expects="PRIORITIES", breaks="I7", profile=DEFAULT)
def priorities_ignored() -> None:
    """Every task is pushed with the default priority."""
    patch(push, "PRIORITIES", dict.fromkeys(PRIORITIES, "d"))


@mutant(expects="PRIORITIES", breaks="I7", profile=PAUSED)
def promotion_by_the_first_that_is_due() -> None:
    """Tasks that become due together get the priority of the first of them."""
    edit(reaper, "_PROMOTE", "pending(heading(entry))", "pending(heading(due[1]))")


@mutant(expects="PRIORITIES", breaks="I7", profile=PAUSED)
def promotion_loses_the_priority() -> None:
    """A task that becomes due is pushed with the default priority."""
    edit(reaper, "_PROMOTE", "pending(heading(entry))", "pending(nil)")


@mutant(expects="PAUSES_WITHIN", breaks="I7", profile=PAUSED)
def pause_is_not_heard() -> None:
    """Workers do not heed that claiming is paused."""

    def renew(self: Any, *arguments: Any) -> Any:
        return replace(original(self, *arguments), paused=False)

    original = patch(Consumer, "renew", renew)


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
