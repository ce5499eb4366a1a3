"""The hand of a worker process: its deliveries, and which of them wait for a handler thread."""

import queue
from collections.abc import Iterable, Iterator
from contextlib import suppress

from .delivery import Delivery, State


class Hand:
    """All deliveries of one process except those that are GONE, oldest first. Only its claimer changes it.

    `ready`: the queue from which the handler threads take deliveries. `alone`: a task that may kill its worker, and so
    runs without any other task; None as soon as it has run, or will not run here.
    """

    def __init__(self) -> None:
        self.ready: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self.alone: Delivery | None = None
        self._deliveries: dict[int, Delivery] = {}

    def __iter__(self) -> Iterator[Delivery]:
        return iter(self._deliveries.values())

    def __len__(self) -> int:
        return len(self._deliveries)

    def having(self, *states: State) -> list[Delivery]:
        """Return the deliveries in one of these states."""
        return [delivery for delivery in self if delivery.state in states]

    def owned(self) -> list[Delivery]:
        """Return the deliveries that are not known to be recovered by another worker."""
        return [delivery for delivery in self if delivery.state is not State.ADRIFT]

    def take(self, delivery: Delivery) -> None:
        """Add a claimed delivery."""
        self._deliveries[delivery.number] = delivery

    def move(self, delivery: Delivery, state: State) -> None:
        """Change a delivery's state. OUT: a handler thread gets it; GONE: it leaves the hand."""
        delivery.state = state
        if state is State.OUT:
            self.ready.put(delivery)
            return
        if delivery is self.alone:
            self.alone = None
        if state is State.GONE:
            self._deliveries.pop(delivery.number, None)

    def drop(self, deliveries: Iterable[Delivery]) -> None:
        """Remove deliveries from the hand."""
        for delivery in deliveries:
            self.move(delivery, State.GONE)

    def isolate(self, delivery: Delivery) -> None:
        """Mark a delivery to run alone, and withdraw the waiting ones, so that its crash interrupts no other task."""
        self.withdraw()
        self.alone = delivery

    def delayed_alone(self) -> Delivery | None:
        """Return the task to run alone if it waits for tasks that run here."""
        alone = self._unbegun_alone()
        return alone if alone and self.owned() != [alone] else None

    def waits(self) -> bool:
        """Whether a delivery waits for running tasks to finish."""
        return not self.ready.empty() or self._unbegun_alone() is not None

    def begin_alone(self) -> None:
        """Begin the task to run alone if no other owned delivery is left."""
        alone = self._unbegun_alone()
        if alone and self.owned() == [alone]:
            self.move(alone, State.OUT)

    def _unbegun_alone(self) -> Delivery | None:
        return self.alone if self.alone and self.alone.state is State.HELD else None

    def withdraw(self) -> None:
        """Take back the deliveries that no handler thread has begun."""
        with suppress(queue.Empty):
            while delivery := self.ready.get_nowait():
                self.move(delivery, State.HELD if delivery.state is State.OUT else State.GONE)
