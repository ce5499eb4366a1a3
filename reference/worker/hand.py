"""What a worker process has in hand: its deliveries, and those of them that wait for a handler thread."""

import math
import queue
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress

from .delivery import Delivery, State


class Hand:
    """All deliveries of one process, oldest first; none that is GONE. Its claimer alone changes it.

    `ready`: where the handler threads take them from. `alone`: a task that may kill its worker, and which runs with
    nothing beside it; None as soon as it has run, or will not run here.
    """

    def __init__(self) -> None:
        self.ready: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self.alone: Delivery | None = None
        self._isolated_at = -math.inf  # monotonic, s
        self._left: dict[str, float] = {}  # id of a task that was left to others -> until when it is kept; monotonic, s
        self._deliveries: dict[int, Delivery] = {}

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._deliveries.values())

    def __len__(self) -> int:
        return len(self._deliveries)

    def having(self, *states: State) -> list[Delivery]:
        """Those in one of these states."""
        return [delivery for delivery in self if delivery.state in states]

    def owned(self) -> list[Delivery]:
        """Those that nobody else has recovered, as far as is known."""
        return [delivery for delivery in self if delivery.state is not State.ADRIFT]

    def take(self, delivery: Delivery) -> None:
        """Add what was claimed."""
        self._deliveries[delivery.number] = delivery

    def move(self, delivery: Delivery, state: State) -> None:
        """Change its state. OUT: a handler thread gets it; GONE: it is in hand no longer."""
        delivery.state = state
        if state is State.OUT:
            self.ready.put(delivery)
            return
        if delivery is self.alone:
            self.alone = None
        if state is State.GONE:
            self._deliveries.pop(delivery.number, None)

    def drop(self, deliveries: Iterable[Delivery]) -> None:
        """They are in hand no longer."""
        for delivery in deliveries:
            self.move(delivery, State.GONE)

    def isolate(self, delivery: Delivery) -> None:
        """It is to run alone. What waits with it is taken back, so that it takes nothing down."""
        self.withdraw()
        self.alone, self._isolated_at = delivery, time.monotonic()

    def leaves(self, patience_s: float) -> bool:
        """Whether what is to run alone has waited that long for what runs, and others may have it."""
        now = time.monotonic()
        return (
            self.alone is not None
            and now - self._isolated_at > patience_s
            and now > self._left.get(self.alone.task.id, -math.inf)
            and self.owned() != [self.alone]
        )

    def leave(self, delivery: Delivery, keep_s: float) -> None:
        """What was to run alone is given back. If it comes again within that time it is kept, as it must run."""
        now = time.monotonic()
        self._left = {task_id: until for task_id, until in self._left.items() if until >= now}
        self._left[delivery.task.id] = now + keep_s

    def waits(self) -> bool:
        """Whether something is in hand that waits for what runs."""
        return not self.ready.empty() or (self.alone is not None and self.alone.state is State.HELD)

    def begin_alone(self) -> None:
        """Begin what is to run alone, where nothing is beside it any more."""
        if self.alone is not None and self.alone.state is State.HELD and self.owned() == [self.alone]:
            self.move(self.alone, State.OUT)

    def withdraw(self) -> None:
        """Take back what no handler thread has begun."""
        with suppress(queue.Empty):
            while delivery := self.ready.get_nowait():
                self.move(delivery, State.HELD if delivery.state is State.OUT else State.GONE)
