"""The one thread of a worker process that touches the process's processing list.

It alone claims, acks, fails and releases, so what lies in the list and what this process has in hand can be compared,
and after any lost reply they are: what is listed and not in hand is the next work, what is in hand and not listed was
recovered by others. Handler threads take deliveries from `ready` and put them, finished, into `inbox`:

    pending --claim--> ready --handler thread--> inbox --ack or fail--> Redis
                         ^                         |
                         +---- one claimer --------+

While nothing is pending, a second thread waits in BLMOVE on its own connection, so that acks need not wait for it.
"""

import logging
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping

import redis

from .config import Config
from .consumer import Consumer
from .errors import LeaseLost, Undecodable
from .handlers import Handler
from .pace import Pace
from .task import Task, decode

logger = logging.getLogger(__name__)

RECONNECT_MAX_S = 5.0


class Delivery:
    """One task in this process's hands. A handler thread sets `started`, then `seconds` and perhaps `error`."""

    __slots__ = ("dropped", "element", "error", "seconds", "started", "task")

    def __init__(self, task: Task) -> None:
        self.task = task
        self.element = task.element
        self.started: float | None = None  # monotonic, s; None: not begun
        self.seconds: float | None = None  # how long it ran; None: not finished
        self.error: str | None = None  # why its handler failed
        self.dropped = False  # it was recovered: do not begin it


class Arrival:
    """The end of one wait in BLMOVE."""

    __slots__ = ("element", "error")

    def __init__(self, element: bytes | None, error: redis.RedisError | None) -> None:
        self.element, self.error = element, error


class Claimer(threading.Thread):
    """Claims for a process's handler threads and acks for them. `run()` ends after `stop()`, when all is settled."""

    def __init__(self, consumer: Consumer, config: Config, handlers: Mapping[str, Handler]) -> None:
        super().__init__(name="claimer", daemon=True)
        self.ready: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self.inbox: queue.SimpleQueue[Delivery | Arrival | None] = queue.SimpleQueue()
        self.lease_until = 0.0  # monotonic, s: by this process's own clock the lease holds at least until then
        self.left = False  # it has left the registry with nothing in hand
        self._consumer, self._config, self._handlers = consumer, config, handlers
        self._hand: set[Delivery] = set()
        self._finished: list[Delivery] = []  # to be acked
        self._failed: list[Delivery] = []  # to be failed
        self._alone: Delivery | None = None  # a task that may kill its worker: it runs with nothing beside it
        self._pace = Pace(config)
        self._waiter = _Waiter(consumer, config, self.inbox)
        self._waiting = False
        self._unsure = True  # the list has to be read before the next claim
        self._renew_at = 0.0
        self._retry_at = 0.0  # no command before that, after an error
        self._errors = 0
        self._stopping = False

    def stop(self) -> None:
        """Claim no more, give back what was not begun, and end when what runs is finished and settled."""
        self._stopping = True
        self.inbox.put(None)

    def run(self) -> None:
        self._waiter.start()
        while not self.left:
            self._receive()
            if time.monotonic() < self._retry_at:
                continue
            try:
                self.turn()
                self._errors = 0
            except redis.RedisError as error:
                self._back_off(error)
        self._waiter.end()

    def _back_off(self, error: redis.RedisError) -> None:
        """After any error the last step may have happened: wait, then read the own list before anything else."""
        self._unsure = True
        self._errors += 1
        pause_s = min(RECONNECT_MAX_S, 0.05 * 2 ** min(self._errors, 10)) * random.uniform(0.5, 1.0)
        self._retry_at = time.monotonic() + pause_s
        logger.warning("Redis failed (%s); the next attempt is in %.2f s.", error, pause_s)

    # -- events ----------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        """Wait for something to do, then take in all that has happened."""
        try:
            event = self.inbox.get(timeout=self._patience_s())
            while True:
                if isinstance(event, Delivery):
                    self._take_back(event)
                elif isinstance(event, Arrival):
                    self._take_arrival(event)
                event = self.inbox.get_nowait()
        except queue.Empty:
            return

    def _patience_s(self) -> float:
        now = time.monotonic()
        if now < self._retry_at:
            return self._retry_at - now
        if self._unsure or self._finished or self._failed or self._wants_more():
            return 0.0
        if not self.ready.empty():
            return min(self._pace.hoarding_s, max(0.0, self._renew_at - now))
        return max(0.0, self._renew_at - now)

    def _take_back(self, delivery: Delivery) -> None:
        if delivery is self._alone:
            self._alone = None
        if delivery.seconds is None:  # a handler thread would not begin it: the lease may have ended
            self._unsure = True
            self._hand.discard(delivery)
        elif delivery not in self._hand:
            logger.warning("Task %s was recovered while it ran; its result is dropped.", delivery.task.id)
        else:
            self._pace.learn(delivery.seconds)
            (self._finished if delivery.error is None else self._failed).append(delivery)

    def _take_arrival(self, arrival: Arrival) -> None:
        self._waiting = False
        if arrival.error is not None:
            self._back_off(arrival.error)
        elif arrival.element is not None:
            if self._unsure or self._stopping or self._waiter.distrusted:
                self._unsure = True  # the list may have been read, with this in it, before the reply came
            else:
                self._admit([arrival.element])

    # -- one turn --------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Everything there is to say to Redis now, in as few commands as that takes."""
        if time.monotonic() >= self._renew_at or self._unsure:
            self._renew()
        if self._unsure:
            self._reconcile()
        while self._failed:
            self._fail(self._failed[-1])
        if self._stopping:
            self._give_back()
            self._settle(0)
            self._leave_if_empty()
            return
        if not self.ready.empty() and self._pace.hoards(self._hand):
            self._give_back()
        if self._wants_more():
            full = self._settle(self._room())
            if not full and self._wants_more() and len(self._hand) < self._config.threads:
                self._wait_for_more()
        elif self._finished:
            self._settle(0)

    def _renew(self) -> None:
        sent = time.monotonic()
        renewal = self._consumer.renew()
        self.lease_until = sent + self._config.lease_ms / 1000
        self._renew_at = sent + self._config.renew_ms / 1000
        if renewal.lapsed or renewal.holding != len(self._hand):
            self._unsure = True

    def _room(self) -> int:
        return self._config.threads + self._pace.ahead(self._hand) - len(self._hand)

    def _wants_more(self) -> bool:
        return not self._stopping and not self._waiting and self._alone is None and self._room() > 0

    def _settle(self, limit: int) -> bool:
        """Ack what is finished and claim up to `limit`. Whether all of `limit` came."""
        if not self._finished and limit == 0:
            return False
        settled = self._finished
        settlement = self._consumer.settle([delivery.element for delivery in settled], limit)
        self._finished = []
        self._hand.difference_update(settled)
        for element in settlement.lost:
            logger.warning("Task %s was recovered before it was acked; it runs again.", decode(element).id)
        if not settlement.lease_lives:
            self._unsure = True
        self._admit(settlement.claimed)
        return len(settlement.claimed) == limit

    def _wait_for_more(self) -> None:
        """Wait in BLMOVE, but only within the lease: it cannot check it, and must not outlive it."""
        if time.monotonic() + self._config.block_ms / 1000 >= self.lease_until:
            self._renew()
        self._waiting = True
        self._waiter.distrusted = False
        self._waiter.requests.put(self._config.block_ms)

    # -- what comes in ---------------------------------------------------------------------------------------------

    def _admit(self, elements: Iterable[bytes]) -> None:
        """Take claimed elements in hand, oldest first. What nobody here can run is given up at once (I5)."""
        for element in elements:
            try:
                delivery = Delivery(decode(element))
            except Undecodable as error:
                logger.error("An element that cannot be decoded goes to the dead-letter list: %s.", error)
                self._give_up(lambda element=element: self._consumer.dead_letter_undecodable(element))  # type: ignore[misc]
                continue
            if delivery.task.type not in self._handlers:
                reason = f"No handler for type {delivery.task.type!r}."
                logger.error("Task %s goes to the dead-letter list: %s", delivery.task.id, reason)
                self._give_up(lambda task=delivery.task: self._consumer.dead_letter(task, reason))  # type: ignore[misc]
                continue
            self._hand.add(delivery)
            if self._is_suspect(delivery.task) and len(self._hand) > 1:
                self._run_alone(delivery)
            else:
                if self._is_suspect(delivery.task):
                    self._alone = delivery
                self.ready.put(delivery)

    def _give_up(self, step) -> None:  # type: ignore[no-untyped-def]
        try:
            step()
        except LeaseLost as lost:
            logger.warning("%s", lost)
