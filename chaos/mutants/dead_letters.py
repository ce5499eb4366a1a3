"""Mutants that lose dead letters, or their reasons."""

from zeroloss.reference.queue import consumer, dead_letters

from .failing import BUDGET
from .mutant import mutant
from .patching import edit
from .profiles import DEFAULT, DENIED, HANDLERS, REQUEUED

PUSH = "redis.call('LPUSH', pending(head), headed(head, letter[2][2]))"
BURY = "local refusal = bury(KEYS[2], entry, ARGV[3], ARGV[4], ARGV[5], ARGV[6])"


@mutant(expects="LOST", breaks="I2", profile=HANDLERS)
def five_dead_letters() -> None:
    """The dead-letter stream is cut to its newest five."""
    edit(consumer, "_DEAD_LETTER", BURY, f"{BURY} redis.call('XTRIM', KEYS[2], 'MAXLEN', 5)")


@mutant(expects="ACCEPTS", breaks="I2", profile=HANDLERS)
def ten_thousand_dead_letters() -> None:
    """The dead-letter stream is trimmed to about its newest ten thousand."""
    edit(consumer, "_DEAD_LETTER", BURY, f"{BURY} redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', 10000)")


@mutant(expects="LOST", breaks="I2", profile=DENIED)
def refused_burial_is_unheeded() -> None:
    """A task that is given up is removed from its worker, even if Redis refused to add it to the dead letters."""
    edit(consumer, "_DEAD_LETTER", "if refusal then return refusal end", "")


@mutant(breaks="I2", profile=DEFAULT, blind_spot="Most runs end before the list was left alone for that long.")
def dead_letters_expire() -> None:
    """The dead letters expire when nothing was added to them for ten seconds."""
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


@mutant(expects="MAX_ATTEMPTS", breaks="I5", profile=REQUEUED)
def requeue_without_a_new_budget() -> None:
    """A dead letter that is requeued is given up at its next failure."""
    edit(dead_letters, "_REQUEUE", BUDGET, "")


@mutant(expects="ATTEMPTS_GROW", breaks="I3", profile=REQUEUED)
def requeue_forgets_the_attempt() -> None:
    """A dead letter that is requeued begins again with its first attempt."""
    edit(dead_letters, "_REQUEUE", BUDGET, f"{BUDGET}\n    head.attempt = 1")


@mutant(expects="LOST", breaks="I1", profile=REQUEUED)
def requeue_of_every_second() -> None:
    """Every second dead letter that is requeued is deleted instead of pushed."""
    edit(dead_letters, "_REQUEUE", PUSH, f"if redis.call('XLEN', KEYS[5]) % 2 == 0 then {PUSH} end")


@mutant(expects="REQUEUE", breaks="I2", profile=REQUEUED)
def requeue_is_only_counted() -> None:
    """A requeued dead letter is reported as requeued, but is not pushed."""
    edit(dead_letters, "_REQUEUE", PUSH, "")
    edit(dead_letters, "_REQUEUE", "redis.call('XDEL', KEYS[5], id)", "")
