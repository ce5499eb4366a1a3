"""Check the laws after each step, against a snapshot of Redis and the events so far."""

from collections.abc import Hashable

from zeroloss.invariants import INVARIANTS
from zeroloss.reference.queue.config import Config

from .census import NOTHING, PENDING, UNREADABLE, Census, moves, read
from .scenario import RECOVERED_WITHIN_MS

HANDLER_ERROR = "ValueError"


def _holder(place: str) -> bool:
    return place.startswith("processing:")


class Judge:
    """Collects violations; each text begins with the number of the broken law."""

    def __init__(self, config: Config) -> None:
        self.submitted: dict[str, str] = {}  # id -> text of the payload
        self.priorities: dict[str, str] = {}  # id -> priority
        self.due: dict[str, int] = {}  # id -> earliest time of execution, ms
        self.accepted: list[str] = []
        self.refused: set[str] = set()
        self.completed: set[str] = set()
        self.executed: list[tuple[str, str]] = []
        self.finished: set[str] = set()  # completed, and then removed by the owner
        self.seen: set[str] = set()  # ids that were in Redis at least once
        self.violations: list[str] = []
        self.put_off_ms = 0  # delay of recoveries that the faults so far may cause
        self.bell_taken = False  # whether a fault has removed the bell: a waiting process then waits until its time-out
        self.last: Census = NOTHING
        self._config = config
        self._abandoned: dict[tuple[str, bytes], int] = {}
        self._begun: set[tuple[str, str, int]] = set()
        self._choice: list[str] | None = None  # ids pending at the first claim

    def after(self, actor: str, census: Census, now_ms: int) -> None:
        """Check the laws after a step of `actor`."""
        self._ownership(actor, census, now_ms)
        if self._choice is None and any(there for place, there in census.places.items() if _holder(place)):
            self._choice = [read(entry).id for place in PENDING for entry in reversed(self.last.places[place])]
        self.last = census
        ids = census.ids()
        lying = {task for there in ids.values() for task in there}
        self.seen |= lying
        dead = dict(census.reasons)
        entries = [read(entry) for there in census.places.values() for entry in there]
        carried = [(entry.id, entry.payload) for entry in entries if entry.id != UNREADABLE]
        given = (
            ("I1", (self.accepted, self.finished, ids)),
            ("I2", (self.accepted, self.completed, dead, lying - dead.keys())),
            ("I6", (self.submitted, carried)),
            ("I6", (self.submitted, self.executed, self.refused)),
        )
        self.violations += [f"{law}: {text}" for law, of in given for text in INVARIANTS[law].check(*of)]
        self._attempts(census)
        for entry in entries:
            if entry.priority != self.priorities.get(entry.id, entry.priority):
                self.violations.append(f"I7: {entry.id} is of priority {entry.priority} now.")

    def _ownership(self, actor: str, census: Census, now_ms: int) -> None:
        back = []
        for task, origin, target in moves(self.last, census):
            owner = (origin or "").removeprefix("processing:")
            if origin and _holder(origin) and target in PENDING:
                back.append((task, origin, target))
            if owner != origin and owner != actor and self.last.leases.get(owner, 0) > now_ms:
                self.violations.append(f"I3: {actor} took {task} from {owner}, whose lease lives.")
            if owner == actor and target is None and task in self.completed:
                self.finished.add(task)
            if origin is None and target and task in self.seen:
                law = "I8" if actor.startswith("producer") else "I3"
                self.violations.append(
                    f"{law}: {actor} put {task} into {target} once more, without taking it anywhere."
                )
        self._order(self.last, back, census)

    def _order(self, held: Census, back: list[tuple[str, str, str]], census: Census) -> None:
        """Check that tasks given back in one step are pending in the order in which they were claimed."""
        for origin, target in {(origin, target) for _, origin, target in back}:
            given = {task for task, *places in back if places == [origin, target]}
            was = [read(entry).id for entry in held.places[origin]]
            now = [read(entry).id for entry in reversed(census.places[target])]
            if [task for task in now if task in given] != [task for task in was if task in given]:
                self.violations.append(f"I7: {', '.join(sorted(given))} were claimed in another order.")

    def begun(self, task: str, consumer: str, number: int, now_ms: int) -> None:
        """Record the call of a handler."""
        if (task, consumer, number) in self._begun:
            self.violations.append(f"I3: {consumer} begins {task} once more, by the same delivery.")
        self._begun.add((task, consumer, number))
        if now_ms < self.due.get(task, 0):
            self.violations.append(f"I7: {task} is begun before it is due.")

    def _attempts(self, census: Census) -> None:
        config, reasons = self._config, dict(census.reasons)
        for place, there in census.places.items():
            for entry in map(read, there):
                dead = place == "dead_letter"
                failed, vanished = entry.retries - config.max_retries, entry.recoveries - config.max_recoveries
                if not dead and (failed > 0 or vanished > 0):
                    self.violations.append(f"I5: {entry.id} has used up its attempts, and is in {place}.")
                if dead and reasons.get(entry.id, "").startswith(HANDLER_ERROR) and failed <= 0:
                    self.violations.append(f"I5: {entry.id} was given up after {entry.retries} failures.")

    def answered(self, task: str, *, replayed: bool) -> None:
        """Record that the producer has received a promise."""
        self.refused.discard(task)
        if task not in self.accepted:
            self.accepted.append(task)
        if replayed and task not in self.seen:
            self.violations.append(f"I8: its key was answered with {task}, which was never pushed.")

    def was_refused(self, task: str) -> None:
        """Record a refusal, unless another producer has received a promise for the same task."""
        if task not in self.accepted:
            self.refused.add(task)

    def state(self) -> Hashable:
        """Return the judge's own state, beyond the current contents of Redis."""
        return (
            (tuple(self.accepted), tuple(self.executed), tuple(sorted(self._abandoned.items())), self.bell_taken),
            (frozenset(self._begun), tuple(self.due.items()), tuple(self._choice or ())),
            (frozenset(self.refused), frozenset(self.completed), frozenset(self.finished), frozenset(self.seen)),
        )

    def in_order(self) -> None:
        """Check I7 for one consumer without faults and retries: order of acceptance, and turns for low priority."""
        executed = [task for task, _ in self.executed]
        for priority in {self.priorities.get(task) for task in executed}:
            same = [task for task in executed if self.priorities.get(task) == priority]
            self.violations += [f"I7: {text}" for text in INVARIANTS["I7"].check(self.accepted, same)]
        low = [task for task in self._choice or () if self.priorities.get(task) == "low"]
        if low and executed[0] != low[0]:  # the first turn of every schedule belongs to low priority
            self.violations.append(f"I7: {low[0]} had to wait, though it was its turn.")

    def time_passed(self, living: set[str], now_ms: int) -> None:
        """Check I4: dead workers' tasks are recovered in bounded time, and the bell rings while a task is pending."""
        if self.last.pending and not self.last.rings and not self.bell_taken:
            self.violations.append("I4: something is pending, and the bell does not ring.")
        held = {
            (place.removeprefix("processing:"), entry): now_ms
            for place, there in self.last.places.items()
            for entry in there
            if _holder(place) and place.removeprefix("processing:") not in living
        }
        self._abandoned = {which: self._abandoned.get(which, since) for which, since in held.items()}
        for (owner, entry), since_ms in self._abandoned.items():
            if now_ms - since_ms > RECOVERED_WITHIN_MS + self.put_off_ms:
                after = {read(entry).id: (now_ms - since_ms) / 1000}
                told = INVARIANTS["I4"].check(after, (RECOVERED_WITHIN_MS + self.put_off_ms) / 1000)
                self.violations += [f"I4: {text} {owner} holds it." for text in told]
