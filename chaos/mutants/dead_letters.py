"""Mutants that lose what was given up, or why."""

from typing import Any

from zeroloss.reference.queue import consumer
from zeroloss.reference.queue.task import revise

from .mutant import mutant
from .patching import edit, patch
from .profiles import DEFAULT, HANDLERS

BURY = "redis.call('LPUSH', KEYS[2], stamped(ARGV[1], ARGV[2]))"


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def five_dead_letters() -> None:
    """The dead-letter list is cut to its newest five."""
    edit(consumer, "_DEAD_LETTER", BURY, f"{BURY} redis.call('LTRIM', KEYS[2], 0, 4)")


@mutant(breaks="I2", profile=DEFAULT, blind_spot="Most runs end before the list was left alone for so long.")
def dead_letters_expire() -> None:
    """The dead-letter list is gone when nothing was added to it for ten seconds."""
    edit(consumer, "_DEAD_LETTER", BURY, f"{BURY} redis.call('PEXPIRE', KEYS[2], 10000)")


@mutant(expects="FAILED", breaks="I2", profile=HANDLERS)
def dead_letter_without_a_reason() -> None:
    """A task that is given up is kept without the reason."""

    def silent(element: bytes, **changes: Any) -> bytes:
        return revise(element, **{**changes, "error": None} if "error" in changes else changes)

    patch(consumer, "revise", silent)


@mutant(expects="CORRUPT", breaks="I6", profile=HANDLERS)
def dead_letter_without_its_payload() -> None:
    """A task that is given up is kept without its payload, to save memory."""

    def emptied(element: bytes, **changes: Any) -> bytes:
        return revise(element, **changes, payload=None) if "error" in changes else revise(element, **changes)

    patch(consumer, "revise", emptied)
