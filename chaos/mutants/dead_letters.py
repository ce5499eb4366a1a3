"""Mutants that lose what was given up, or why."""

from zeroloss.reference.queue import consumer

from .mutant import mutant
from .patching import edit
from .profiles import DEFAULT, HANDLERS

BURY = "local refusal = bury(KEYS[2], entry, ARGV[3], ARGV[4], ARGV[5], ARGV[6])"


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def five_dead_letters() -> None:
    """The dead-letter list is cut to its newest five."""
    edit(consumer, "_DEAD_LETTER", BURY, f"{BURY} redis.call('XTRIM', KEYS[2], 'MAXLEN', 5)")


@mutant(breaks="I2", profile=DEFAULT, blind_spot="Most runs end before the list was left alone for that long.")
def dead_letters_expire() -> None:
    """The dead-letter list is gone when nothing was added to it for ten seconds."""
    edit(consumer, "_DEAD_LETTER", BURY, f"{BURY} redis.call('PEXPIRE', KEYS[2], 10000)")


@mutant(expects="FAILED", breaks="I2", profile=HANDLERS)
def dead_letter_without_a_reason() -> None:
    """A task that is given up is kept without the reason."""
    edit(consumer, "_DEAD_LETTER", BURY, BURY.replace("ARGV[3], ARGV[4]", "'', ''"))


@mutant(expects="CORRUPT", breaks="I6", profile=HANDLERS)
def dead_letter_without_its_payload() -> None:
    """A task that is given up is kept without its payload, to save memory."""
    emptied = "entry = string.gsub(entry, '\"payload\":.*', '\"payload\":null}')"
    edit(consumer, "_DEAD_LETTER", BURY, f"{emptied}\n{BURY}")
