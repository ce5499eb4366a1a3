"""The laws after each step, over what lies in Redis and what has happened."""

from collections.abc import Hashable

from zeroloss.invariants import INVARIANTS
from zeroloss.reference.queue.config import Config

from .census import NOTHING, UNREADABLE, Census, moves, read
from .scenario import RECOVERED_WITHIN_MS

HANDLER_ERROR = "ValueError"


class Judge:
    """`violations` is empty while every law holds; each begins with the number of its law."""

    def __init__(self, config: Config) -> None:
        self.submitted: dict[str, str] = {}  # id -> the payload's text
        self.accepted: list[str] = []
        self.refused: set[str] = set()
        self.completed: set[str] = set()
        self.executed: list[tuple[str, str]] = []
        self.finished: set[str] = set()  # completed, and then taken off the list by its owner
        self.seen: set[str] = set()  # was in Redis at least once
        self.violations: list[str] = []
        self.put_off_ms = 0  # by so much what went wrong has put off any recovery
        self.last: Census = NOTHING
        self._config = config
        self._abandoned: dict[tuple[str, bytes], int] = {}

    def after(self, actor: str, census: Census, now_ms: int) -> None:
        """`actor`: whose step it was."""
        self._ownership(actor, census, now_ms)
        self.last = census
        ids = census.ids()
        lying = {task for there in ids.values() for task in there}
        self.seen |= lying
        dead = {entry.id: entry.error for entry in map(read, census.places["dead_letter"])}
        elements = [read(element) for there in census.places.values() for element in there]
        carried = [(entry.id, entry.payload) for entry in elements if entry.id != UNREADABLE]
        given = (
            ("I1", (self.accepted, self.finished, ids)),
            ("I2", (self.accepted, self.completed, dead, lying - dead.keys())),
            ("I6", (self.submitted, carried)),
            ("I6", (self.submitted, self.executed, self.refused)),
        )
        self.violations += [f"{law}: {text}" for law, of in given for text in INVARIANTS[law].check(*of)]
        self._attempts(census)

    def _ownership(self, actor: str, census: Census, now_ms: int) -> None:
        for task, origin, target in moves(self.last, census):
            owner = (origin or "").removeprefix("processing:")
            if owner != origin and owner != actor and self.last.leases.get(owner, 0) > now_ms:
                self.violations.append(f"I3: {actor} took {task} from {owner}, whose lease lives.")
            if owner == actor and target is None and task in self.completed:
                self.finished.add(task)
            if origin is None and target and task in self.seen:
                law = "I8" if actor.startswith("producer") else "I3"
                self.violations.append(
                    f"{law}: {actor} put {task} into {target} once more, without taking it anywhere."
                )

    def _attempts(self, census: Census) -> None:
        config = self._config
        for place, there in census.places.items():
            for entry in map(read, there):
                dead = place == "dead_letter"
                failed, vanished = entry.retries - config.max_retries, entry.recoveries - config.max_recoveries
                if not dead and (failed > 0 or vanished > 0):
                    self.violations.append(f"I5: {entry.id} has used up its attempts, and is in {place}.")
                if dead and (entry.error or "").startswith(HANDLER_ERROR) and failed <= 0:
                    self.violations.append(f"I5: {entry.id} was given up after {entry.retries} failures.")

    def answered(self, task: str, *, replayed: bool) -> None:
        """The producer was told that it is accepted."""
        self.refused.discard(task)
        if task not in self.accepted:
            self.accepted.append(task)
        if replayed and task not in self.seen:
            self.violations.append(f"I8: its key was answered with {task}, which was never pushed.")

    def was_refused(self, task: str) -> None:
        """Another producer may have been told otherwise: one promise is enough."""
        if task not in self.accepted:
            self.refused.add(task)

    def state(self) -> Hashable:
        """What it remembers, beyond what lies in Redis now."""
        return (
            (tuple(self.accepted), tuple(self.executed), tuple(sorted(self._abandoned.items()))),
            (frozenset(self.refused), frozenset(self.completed), frozenset(self.finished), frozenset(self.seen)),
        )

    def in_order(self) -> None:
        """One consumer, no fault and no retry: the order of acceptance."""
        executed = [task for task, _ in self.executed]
        self.violations += [f"I7: {text}" for text in INVARIANTS["I7"].check(self.accepted, executed)]

    def time_passed(self, living: set[str], now_ms: int) -> None:
        """What the dead hold is recovered in bounded time."""
        held = {
            (place.removeprefix("processing:"), element): now_ms
            for place, there in self.last.places.items()
            for element in there
            if place.startswith("processing:") and place.removeprefix("processing:") not in living
        }
        self._abandoned = {which: self._abandoned.get(which, since) for which, since in held.items()}
        for (owner, element), since_ms in self._abandoned.items():
            if now_ms - since_ms > RECOVERED_WITHIN_MS + self.put_off_ms:
                after = {read(element).id: (now_ms - since_ms) / 1000}
                told = INVARIANTS["I4"].check(after, (RECOVERED_WITHIN_MS + self.put_off_ms) / 1000)
                self.violations += [f"I4: {text} It is in the list of {owner}." for text in told]
