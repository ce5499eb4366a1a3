"""The dead letters for the monitor's page: pages, a search, and the operator's actions.

Requeue and purge are atomic for each letter, by its id: of two operators who act at once, one finds the letter gone.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

from ..queue.dead_letters import DeadLetter, DeadLetters, NotRequeueable
from .places import PAGE, PAGE_BYTES, SLICE, Shown, summary_of

SOUGHT_S = 1.0  # time limit of the search for one answer; the page asks for the rest
ACTED_S = 2.0
PAYLOAD_BYTES_MAX = 65_536  # in the details of one letter
ERROR_CHARS_MAX = 300  # in a row of a list


class Wanted(NamedTuple):
    """A filter: letters of this reason and type, with this text in an id, the type, the error or the consumer.

    Empty: any.
    """

    reason: str = ""
    type: str = ""
    text: str = ""

    def takes(self, letter: DeadLetter) -> bool:
        """Whether a letter passes the filter."""
        task = letter.task
        if (self.reason and letter.reason != self.reason) or (self.type and (task is None or task.type != self.type)):
            return False
        words = (letter.id, letter.error, task.id if task else "", task.type if task else "", letter.consumer)
        return self.text.casefold() in "\n".join(words).casefold()


class Letters:
    """Reads pages of the dead-letter stream, newest first, and acts on letters."""

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters

    def page(self, wanted: Wanted, before: str | None = None) -> Shown:
        """Return one page of the wanted letters. `next`: the value of `before` for the next page, if there may be one.

        Raises:
            QueueError: `before` is not an id of a letter.
            redis.RedisError: Redis does not answer, or the key is of another type.
        """
        until, shown, size, looked, last = time.monotonic() + SOUGHT_S, [], 0, 0, None
        total = self._letters.count()
        for letter in self._from(before):
            looked, last, size = looked + 1, letter.id, size + len(letter.entry)
            if wanted.takes(letter):
                shown.append(row_of(letter))
            if len(shown) >= PAGE or size >= PAGE_BYTES * (1 if shown else 16) or time.monotonic() > until:
                break
        else:
            last = None
        return {"total": total, "looked": looked, "letters": shown, "next": last}

    def one(self, letter_id: str) -> Shown | None:
        """Return a letter with all details, its payload bounded; None if it is gone. Raises as `page` does."""
        letter = self._letters.get(letter_id)
        if letter is None:
            return None
        payload = bytes(letter.task.raw_payload) if letter.task else letter.entry
        return row_of(letter) | {
            "error": letter.error,
            "traceback": letter.traceback,
            "consumer": letter.consumer,
            "payload": payload[:PAYLOAD_BYTES_MAX].decode(errors="replace"),
            "payload_bytes": len(payload),
        }

    def act(self, verb: str, ids: list[str]) -> Shown:
        """Requeue or purge letters by their ids. Return how many existed, and how many cannot be read.

        Raises:
            QueueError: an id is invalid.
            redis.RedisError: Redis does not answer, or refuses.
        """
        if verb == "purge":
            return {"done": self._letters.purge(*ids), "unreadable": 0}
        done, unreadable = 0, 0
        for letter_id in ids:
            try:
                done += self._letters.requeue(letter_id)
            except NotRequeueable:
                unreadable += 1
        return {"done": done, "unreadable": unreadable}

    def act_on_all(self, verb: str, wanted: Wanted, newest: str | None) -> Shown:
        """Requeue or purge the wanted letters older than `newest`, newest first. `next`: set if there may be more.

        Raises as `act` does.
        """
        until, done, unreadable, last = time.monotonic() + ACTED_S, 0, 0, newest
        for letter in self._from(newest):
            last = letter.id
            if wanted.takes(letter):
                acted = self.act(verb, [letter.id])
                done, unreadable = done + acted["done"], unreadable + acted["unreadable"]
            if time.monotonic() > until:
                break
        else:
            last = None
        return {"done": done, "unreadable": unreadable, "next": last}

    def _from(self, before: str | None) -> Iterator[DeadLetter]:
        """Yield the letters older than `before`, newest first, read a few at a time: an entry may have a megabyte."""
        while letters := self._letters.page(SLICE, before):
            yield from letters
            before = letters[-1].id


def row_of(letter: DeadLetter) -> Shown:
    """Return a letter as a row of a list."""
    shown = summary_of(letter.entry)
    for counter in ("attempt", "retries", "recoveries"):  # these are for the next attempt; `attempts` counts past ones
        shown.pop(counter, None)
    attempts = max(0, letter.task.attempt - 1) if letter.task else None  # dead-lettering raised it
    shown |= {"letter": letter.id, "dead_at": letter.dead_at, "reason": letter.reason, "attempts": attempts}
    return shown | {"error": letter.error[:ERROR_CHARS_MAX]}
