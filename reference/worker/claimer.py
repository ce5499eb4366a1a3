"""The one thread of a worker process that touches the process's processing list.

It alone claims, acks, fails and releases, so what lies in the list and what this process has in hand can be compared,
and after any lost reply they are: what is listed and not in hand is the next work, what is in hand and not listed was
recovered by others. Handler threads take deliveries from `ready` and put them, finished, into `inbox`:

    pending --claim--> ready --handler thread--> inbox --ack or fail--> Redis
                         ^                         |
                         +---- one claimer --------+

While nothing is pending, a second thread waits in BLMOVE on its own connection, so that acks need not wait for it.
"""

import contextlib
import logging
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable
from functools import partial
from textwrap import indent

import redis

from ..queue.config import Config
from ..queue.consumer import Consumer, transfers
from ..queue.errors import LeaseLost, Undecodable
from ..queue.task import Task, decode
from .delivery import Delivery
from .pace import Pace
from .waiter import Arrival, Waiter

logger = logging.getLogger(__name__)

RECONNECT_MAX_S = 1.5  # whoever is primary next is found within two seconds


class Claimer(threading.Thread):
    """Claims for a process's handler threads and acks for them. `run()` ends after `stop()`, when all is settled."""

    def __init__(self, consumer: Consumer, config: Config, task_types: Container[str]) -> None:
        super().__init__(name="claimer", daemon=True)
        self.ready: queue.SimpleQueue[Delivery | None] = queue.SimpleQueue()
        self.inbox: queue.SimpleQueue[Delivery | Arrival | None] = queue.SimpleQueue()
        self.lease_until = 0.0  # monotonic, s: by this process's own clock the lease holds at least until then
        self.left = False  # it has left the registry with nothing in hand
        self._consumer, self._config, self._task_types = consumer, config, task_types
        self._hand: set[Delivery] = set()
        self._adrift: set[Delivery] = set()  # in hand no more, as others recovered it; a handler thread is in it yet
        self._finished: list[Delivery] = []  # to be acked
        self._failed: list[Delivery] = []  # to be failed
        self._alone: Delivery | None = None  # a task that may kill its worker: it runs with nothing beside it
        self._surplus: list[Delivery] = []  # in hand, never to be begun: to be given back
        self._pace = Pace(config)
        self._waiter = Waiter(consumer, self.inbox)
        self._waiting = False
        self._distrusted = False  # the list was read during the wait: what arrives may be in hand already
        self._dry = False  # the last claim found too little: wait, or look again when a task is finished
        self._unsure = True  # the list has to be read before the next claim
        self._renew_at = 0.0
        self._retry_at = 0.0  # no command before that, after an error
        self._errors = 0
        self._stopping = False
        self._paused = False  # as the last renewal said
        self.tried_at = time.monotonic()  # monotonic, s: when it last tried to claim, or could not have
        self.heard_at = 0.0  # monotonic, s: when Redis had last answered all that it was asked

    def could_claim(self) -> bool:
        """Whether a thread is free that a claim could serve; a look from another thread."""
        busy = self._idles() or self._alone is not None
        return not busy and len(self._hand) + len(self._adrift) < self._config.threads

    def stop(self) -> None:
        """Claim no more, give back what was not begun, and end when what runs is finished and settled."""
        self._stopping = True
        self.inbox.put(None)

    def run(self) -> None:
        self._waiter.start()
        while not self.left and self._waiter.is_alive():  # without the waiter it would wait for ever: the worker ends
            try:
                self._receive()
                if time.monotonic() < self._retry_at:
                    continue
                self.turn()
                self._errors = 0
                self.heard_at = time.monotonic()
            except redis.RedisError as error:
                self._back_off(error)
        self._waiter.requests.put(None)

    def _back_off(self, error: redis.RedisError) -> None:
        """After any error the last step may have happened: wait, then read the own list before anything else."""
        self._unsure = True
        self._errors += 1
        self.tried_at = time.monotonic()
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
        if self._unsure or self._finished or self._failed or self._surplus or self._wants_more() or self._can_wait():
            return 0.0
        if not self.ready.empty():
            return min(self._pace.hoarding_s, max(0.0, self._renew_at - now))
        return max(0.0, self._renew_at - now)

    def _take_back(self, delivery: Delivery) -> None:
        self._dry = delivery.queued = False
        self._adrift.discard(delivery)
        if delivery is self._alone:
            self._alone = None
        if delivery.seconds is None:  # a handler thread would not begin it
            # If nobody had dropped it, the lease may have ended.
            self._unsure = self._unsure or not delivery.dropped
            self._hand.discard(delivery)
        elif delivery not in self._hand:
            logger.warning("Task %s was recovered while it ran; its result is dropped.", delivery.task.shown_id)
        else:
            self._pace.learn(delivery.seconds)
            (self._finished if delivery.error is None else self._failed).append(delivery)

    def _take_arrival(self, arrival: Arrival) -> None:
        self._waiting = False
        self.tried_at = time.monotonic()
        if arrival.error is not None:
            self._dry = False  # a wait may be refused for long, as where memory is full: look before the next
            self._back_off(arrival.error)
        elif arrival.element is not None:
            self._dry = False
            if self._distrusted:
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
        while self._failed and time.monotonic() < self._renew_at:  # many of them may take long
            self._fail(self._failed[-1])
        if self._surplus or self._idles() or (not self.ready.empty() and self._pace.hoards(self._running())):
            self._give_back()
        # By halves: while Redis is asked for one, the handlers run the other.
        limit = min(self._room(), self._config.threads + self._config.ahead // 2) if self._wants_more() else 0
        if limit or self._finished:
            self._settle(limit)
        if self._can_wait():
            self._wait_for_more()
        if self._alone is not None and not self._alone.queued and len(self._hand) == 1:
            self._begin(self._alone)
        if self._stopping and not (self._waiting or self._hand or self._unsure):
            self.left = self._consumer.leave()
            self._unsure = not self.left  # a wait given up for lost brought something in after all

    def _renew(self) -> None:
        sent = time.monotonic()
        renewal = self._consumer.renew()
        self.lease_until = sent + self._config.lease_ms / 1000
        self._renew_at = sent + self._config.renew_ms / 1000
        if renewal.lapsed or renewal.holding != len(self._hand):
            self._unsure = True
        if renewal.paused != self._paused:
            self._paused, self._dry = renewal.paused, False
            logger.warning("Claiming is paused." if renewal.paused else "Claiming goes on.")

    def _idles(self) -> bool:
        """It is to claim nothing, and to give back what was not begun."""
        return self._stopping or self._paused

    def _room(self) -> int:
        kept = len(self._hand) - len(self._finished)  # what is finished is acked in the same step, before the claim
        return self._config.threads - len(self._adrift) + self._pace.ahead(self._running()) - kept

    def _running(self) -> Collection[Delivery]:
        """All that handler threads may be in, whether it counts or not."""
        return self._hand | self._adrift if self._adrift else self._hand

    def _wants_more(self) -> bool:
        idle = self._dry or self._idles() or self._waiting or self._alone is not None
        return not idle and self._room() > 0

    def _can_wait(self) -> bool:
        """Nothing is pending, and a thread is free."""
        busy = self._idles() or self._waiting or self._alone is not None
        return self._dry and not busy and len(self._hand) + len(self._adrift) < self._config.threads

    def _wait_for_more(self) -> None:
        """Wait in BLMOVE, but only within the lease, which it cannot check."""
        if time.monotonic() + self._config.block_ms / 1000 >= self.lease_until:
            self._renew()
        self._waiting, self._distrusted = True, self._unsure
        self._waiter.requests.put(self._config.block_ms)

    def _settle(self, limit: int) -> None:
        """Ack what is finished and claim up to `limit`, in one round trip."""
        done = next(transfers([delivery.element for delivery in self._finished]), [])
        settled, left = self._finished[: len(done)], self._finished[len(done) :]
        settlement = self._consumer.settle(done, limit)
        self.tried_at = time.monotonic()
        self._finished = left
        self._hand.difference_update(settled)
        for element in settlement.lost:
            logger.warning("Task %s was recovered before it was acked; it runs again.", decode(element).shown_id)
        self._unsure = self._unsure or not settlement.lease_lives
        enough = settlement.more or len(settlement.claimed) == limit
        self._dry = self._dry or (settlement.lease_lives and not enough)
        self._admit(settlement.claimed)

    def _fail(self, delivery: Delivery) -> None:
        task, error = delivery.task, delivery.error or ""
        try:
            retried = self._consumer.fail(task, error, delivery.traceback, delivery.config, delivery.after_ms)
            outcome = "will be retried" if retried else "goes to the dead-letter list"
            # Indented, so that none of its lines can be taken for another entry of the log.
            where = indent(f"\n{delivery.traceback}", "    ") if delivery.traceback else ""
            told = (task.shown_id, task.shown_type, task.attempt, outcome, error, where)
            logger.warning("Task %s of type %s, attempt %d, %s: %s%s", *told)
        except LeaseLost as lost:
            logger.warning("%s", lost)
        self._failed.remove(delivery)
        self._hand.discard(delivery)

    def _give_back(self) -> None:
        """Release what was not begun, in its order."""
        self._surplus = self._withdraw() + self._surplus
        if self._idles() and self._alone is not None and not self._alone.queued:
            self._surplus.append(self._alone)
            self._alone = None
        if not self._surplus:
            return
        # After an error they are still surplus: what the list then shows as held is given back in the next turn.
        self._consumer.release([delivery.element for delivery in self._surplus])
        self._hand.difference_update(self._surplus)
        if self._alone in self._surplus:
            self._alone = None
        self._surplus = []

    def _withdraw(self) -> list[Delivery]:
        """Take back what no handler thread has begun, oldest first."""
        idle: list[Delivery] = []
        with contextlib.suppress(queue.Empty):
            while True:
                delivery = self.ready.get_nowait()
                if delivery is None:
                    continue
                delivery.queued = False
                self._adrift.discard(delivery)
                if not delivery.dropped:
                    idle.append(delivery)
        return idle

    # -- what comes in ---------------------------------------------------------------------------------------------

    def _admit(self, elements: Iterable[bytes]) -> None:
        """Take claimed elements in hand, oldest first. What nobody here can run is given up at once (I5)."""
        for element in elements:
            try:
                delivery = Delivery(decode(element))
            except Undecodable as error:
                logger.error("An element that cannot be decoded goes to the dead-letter list: %s.", error)
                self._give_up(partial(self._consumer.dead_letter_undecodable, element))
                continue
            if delivery.task.type not in self._task_types:
                reason = f"No handler is registered for type '{delivery.task.shown_type}'."
                logger.error("Task %s goes to the dead-letter list: %s", delivery.task.shown_id, reason)
                self._give_up(partial(self._consumer.dead_letter, delivery.task, reason))
                continue
            self._hand.add(delivery)
            if self._idles() or self._alone is not None:
                self._surplus.append(delivery)
            elif self._is_suspect(delivery.task):
                self._alone = delivery  # what waits with it is given back first, so that it takes nothing down
                self._surplus += self._withdraw()
            else:
                self._begin(delivery)

    def _begin(self, delivery: Delivery) -> None:
        delivery.queued = True
        self.ready.put(delivery)

    def _is_suspect(self, task: Task) -> bool:
        return task.recovered_count - task.recoveries_forgiven >= self._config.isolate_after

    def _give_up(self, step: Callable[[], None]) -> None:
        try:
            step()
        except LeaseLost as lost:
            logger.warning("%s", lost)

    def _reconcile(self) -> None:
        """Compare the own list with what is in hand, and believe the list (see the module's first lines)."""
        self._distrusted = True  # matters where a wait is on
        unclaimed = Counter(self._consumer.held())
        for delivery in list(self._hand):
            if unclaimed[delivery.element] > 0:
                unclaimed[delivery.element] -= 1
                continue
            delivery.dropped = True
            self._hand.discard(delivery)
            if delivery.queued:
                self._adrift.add(delivery)
            if delivery.started is None:
                logger.warning("Task %s was recovered before it was begun here.", delivery.task.shown_id)
        self._finished = [delivery for delivery in self._finished if delivery in self._hand]
        self._failed = [delivery for delivery in self._failed if delivery in self._hand]
        self._surplus = [delivery for delivery in self._surplus if delivery in self._hand]
        if self._alone not in self._hand:
            self._alone = None
        self._unsure = False
        self._admit(unclaimed.elements())
