"""The claimer: the only thread of a worker process that changes the tasks of the process's consumer.

It alone claims, acks, fails and releases. So the tasks that Redis holds for it and those that this process has in hand
can be compared, and are after any lost reply: a task held and not in hand is the next work, a task in hand and not held
was recovered by others. Handler threads take deliveries from `ready` and put them, finished, into `inbox`:

    pending --claim--> ready --handler thread--> inbox --ack or fail--> Redis
                         ^                         |
                         +---- one claimer --------+

While nothing is pending, a second thread waits for the bell on its own connection, so that acks need not wait for it.
The number of its claim is in flight until the wait has ended. Meanwhile the claimer claims nothing, as that would use
higher numbers, and leaves a task under this number in Redis to the reply.
"""

import logging
import queue
import random
import threading
import time
from collections.abc import Container, Iterable
from contextlib import suppress

import redis

from ..queue.config import Config
from ..queue.consumer import Consumer
from ..queue.consuming.settling import Claimed, Settlement
from ..queue.errors import OtherProtocol, Undecodable
from ..queue.task import Task
from .delivery import Delivery, State
from .hand import Hand
from .journal import Journal, Observer
from .outcomes import Outcomes
from .pace import Pace
from .waiter import Waiter

logger = logging.getLogger(__name__)

RECONNECT_MAX_S = 1.5  # the next primary is found within two seconds
REFUSED_MAX = 100  # at this number of outcomes that Redis refuses to store, nothing more is claimed


class Claimer(threading.Thread):
    """Claims and acks for the handler threads of a process. `run()` ends after `stop()`, when all is settled."""

    def __init__(
        self, consumer: Consumer, config: Config, task_types: Container[str], observer: Observer | None = None
    ) -> None:
        super().__init__(name="claimer", daemon=True)
        self._hand = Hand()
        self.ready = self._hand.ready
        self.inbox: queue.SimpleQueue[Delivery | Settlement | redis.RedisError | None] = queue.SimpleQueue()
        self.journal = Journal(config.threads, observer)
        self.lease_until = 0.0  # monotonic, s: by this process's own clock the lease holds at least until then
        self.left = False  # whether it has left the registry with nothing in hand
        self._consumer, self._config, self._task_types = consumer, config, task_types
        self._outcomes = Outcomes(consumer, self.journal)
        self._pace = Pace(config)
        self._waiter = Waiter(consumer, self.inbox, config.block_ms)
        self._awaited: int | None = None  # the number in flight: that of the current wait
        self._dry = False  # the last claim returned fewer tasks than requested: wait, or claim again after a task ends
        self._kept: set[int] = set()  # held entries that cannot run here, and that Redis refused to dead-letter
        self._refused = 0  # how many deliveries were REFUSED when it last looked
        self._unsure = True  # the held tasks must be read before the next claim
        self._renew_at = 0.0
        self._retry_at = 0.0  # after an error: no command before this time
        self._offer_at = 0.0  # when to look for an idle worker that can begin the task to run alone sooner
        self._errors = 0
        self._stopping = False
        self._paused = False  # from the last renewal
        self.tried_at = time.monotonic()  # monotonic, s: when it last tried to claim, or failed to
        self.heard_at = 0.0  # monotonic, s: when Redis had last answered all commands of a turn

    def could_claim(self) -> bool:
        """Whether a free thread could use a claimed task; other threads may call this."""
        taken = len(self._hand) - self._refused
        return self._may_hold_more() and self._hand.alone is None and taken < self._config.threads

    def stop(self) -> None:
        """Claim no more, give back tasks that were not begun, and end when the running tasks are settled."""
        self._stopping = True
        self.inbox.put(None)

    def run(self) -> None:
        self._waiter.start()
        while not self.left and self._waiter.is_alive():  # without the waiter it would wait forever: the worker ends
            try:
                self._receive()
                if time.monotonic() < self._retry_at:
                    continue
                self.turn()
                self._errors = 0
                self.heard_at = time.monotonic()
            except (redis.RedisError, OtherProtocol) as error:
                self._back_off(error)
        self._waiter.requests.put(None)

    def _back_off(self, error: Exception) -> None:
        """Wait after an error, then read the held tasks before anything else: the last step may have happened."""
        self._unsure = True
        self._errors += 1
        self.tried_at = time.monotonic()
        pause_s = min(RECONNECT_MAX_S, 0.05 * 2 ** min(self._errors, 10)) * random.uniform(0.5, 1.0)
        self._retry_at = time.monotonic() + pause_s
        logger.warning("Redis failed (%s); the next attempt is in %.2f s.", error, pause_s)

    def _receive(self) -> None:
        """Wait for something to do, then process all events in the inbox."""
        with suppress(queue.Empty):
            event = self.inbox.get(timeout=self._patience_s() if self.inbox.empty() else 0.0)
            while True:
                if isinstance(event, Delivery):
                    self._take_back(event)
                elif event is not None:
                    self._take_arrival(event)
                event = self.inbox.get_nowait()

    def _patience_s(self) -> float:
        now = time.monotonic()
        if now < self._retry_at:
            return self._retry_at - now
        if self._unsure or self._hand.having(State.DONE, State.FAILED) or self._surplus():
            return 0.0
        if self._wants_more() or self._can_wait():
            return 0.0
        until_renewal_s = max(0.0, self._renew_at - now)
        return min(self._pace.hoarding_s, until_renewal_s) if self._hand.waits() else until_renewal_s

    def _take_back(self, delivery: Delivery) -> None:
        self._dry = False
        if delivery.state is not State.OUT:
            if delivery.seconds is not None:
                self.journal.lost(delivery.task, "while it ran; its result is dropped")
            self._hand.move(delivery, State.GONE)
        elif delivery.seconds is None:  # a handler thread would not begin it, as the lease may have ended
            self._unsure = True
            self._hand.move(delivery, State.GONE)
        else:
            self._pace.learn(delivery.seconds)
            self.journal.ended(delivery)
            self._hand.move(delivery, State.DONE if delivery.error is None else State.FAILED)

    def _take_arrival(self, arrival: Settlement | redis.RedisError) -> None:
        """Process the result of a wait: a claim of at most one task, or Redis's error."""
        self._awaited = None
        self.tried_at = time.monotonic()
        if isinstance(arrival, redis.RedisError):
            self._dry = False  # waits may be refused for long, as with full memory: claim before the next wait
            self._back_off(arrival)
            return
        self._unsure = self._unsure or not arrival.lease_lives
        if arrival.claimed:
            self._dry = False
            self._admit(arrival.claimed)

    def turn(self) -> None:
        """Send Redis everything that is due now, in as few commands as possible."""
        if time.monotonic() >= self._renew_at or self._unsure:
            self._renew()
        if self._unsure:
            self._reconcile()
        for delivery in self._hand.having(State.FAILED):
            if time.monotonic() < self._renew_at:  # many failures may take long: renew in time
                self._hand.move(delivery, State.GONE if self._outcomes.fail(delivery) else State.REFUSED)
        self._refused = len(self._hand.having(State.REFUSED))
        if self._stopping:
            self._hand.withdraw()
            if not self._hand.having(State.OUT, State.FAILED):
                self._leave()
                return
        hoards = not self.ready.empty() and self._pace.hoards(self._hand)
        if hoards or self._idles() or self._surplus():
            self._give_back()
        if (alone := self._hand.delayed_alone()) and time.monotonic() >= self._offer_at:
            self._offer(alone)
        # Half of the prefetch at a time: the handlers run one half while Redis is asked for the other.
        limit = min(self._room(), self._config.threads + self._config.ahead // 2) if self._wants_more() else 0
        done = self._hand.having(State.DONE)
        if limit or done:
            self._settle(done, limit)
        if self._can_wait():
            self._awaited = self._consumer.reserve(1)
            self._waiter.requests.put(self._awaited)
        self._hand.begin_alone()

    def _leave(self) -> None:
        """Ack done tasks, give back tasks that were not begun, and leave, in one step.

        Tasks whose outcome Redis refused to store are left to recovery.
        A wait that ends later finds no lease. A task that it claimed before arrives, or is read from Redis.
        """
        done, unbegun = self._hand.having(State.DONE), self._hand.having(State.HELD)
        departure = self._consumer.leave([d.number for d in done], [d.number for d in unbegun])
        self._acked(done, departure.lost)
        self._hand.drop(unbegun)
        self.left = departure.left or bool(self._kept or self._refused)
        self._unsure = not self.left and self._awaited is None

    def _renew(self) -> None:
        sent = time.monotonic()
        renewal = self._consumer.renew(self.journal.report(self._hand))
        self.journal.hear(sent, renewal.time_ms)
        self.lease_until = sent + self._config.lease_ms / 1000
        self._renew_at = sent + self._config.renew_ms / 1000
        for delivery in self._hand.having(State.REFUSED):
            self._hand.move(delivery, State.FAILED)
        if renewal.lapsed or renewal.holding != len(self._hand.owned()):
            self._unsure = True
        if renewal.paused != self._paused:
            self._paused, self._dry = renewal.paused, False
            logger.warning("Claiming is paused." if renewal.paused else "Claiming goes on.")

    def _idles(self) -> bool:
        """Whether it must claim nothing, and give back tasks that were not begun."""
        return self._stopping or self._paused

    def _surplus(self) -> list[Delivery]:
        """Return the deliveries that will not be begun here, and must be given back."""
        alone = None if self._idles() else self._hand.alone
        return [delivery for delivery in self._hand.having(State.HELD) if delivery is not alone]

    def _room(self) -> int:
        # Done tasks do not count: they are acked in the same step, before the claim.
        taken = len(self._hand) - len(self._hand.having(State.DONE)) - self._refused
        return self._config.threads + self._pace.ahead(self._hand) - taken

    def _wants_more(self) -> bool:
        idle = self._dry or self._awaited is not None or self._hand.alone is not None
        return not idle and self._may_hold_more() and self._room() > 0

    def _may_hold_more(self) -> bool:
        return not self._idles() and self._refused + len(self._kept) < REFUSED_MAX

    def _can_wait(self) -> bool:
        """Whether to wait for the bell: nothing is pending, and a thread is free."""
        return self._dry and self._awaited is None and self.could_claim()

    def _settle(self, done: list[Delivery], limit: int) -> None:
        """Ack done tasks and claim up to `limit`, in one round trip."""
        settlement = self._consumer.settle([delivery.number for delivery in done], limit)
        self.tried_at = time.monotonic()
        self._acked(done, settlement.lost)
        self._unsure = self._unsure or not settlement.lease_lives
        enough = settlement.more or len(settlement.claimed) == limit
        self._dry = self._dry or (settlement.lease_lives and not enough)
        self._admit(settlement.claimed)

    def _acked(self, done: list[Delivery], lost: Container[int]) -> None:
        for delivery in done:
            self._hand.move(delivery, State.GONE)
            if delivery.number in lost:
                self.journal.lost(delivery.task, "before it was acked; it runs again")
            else:
                self.journal.acked(delivery.task)

    def _give_back(self) -> None:
        """Release tasks that were not begun."""
        self._hand.withdraw()
        self._release(self._surplus())

    def _offer(self, alone: Delivery) -> None:
        """Give back the task to run alone if another worker is idle, and so can begin it at once."""
        self._offer_at = time.monotonic() + self._pace.hoarding_s
        if self._consumer.others_idle():
            self._dry = True  # wait again: workers that wait already hear the bell first
            self._release([alone])

    def _release(self, deliveries: list[Delivery]) -> None:
        # After an error these tasks are still in hand: those that Redis still holds are given back in a later turn.
        self._consumer.release(delivery.number for delivery in deliveries)
        self._hand.drop(deliveries)

    def _admit(self, claimed: Iterable[Claimed]) -> None:
        """Take claimed entries in hand, oldest first; dead-letter at once those that cannot run here (I5)."""
        for each in claimed:
            try:
                delivery = Delivery(Task(each.entry, each.number))
            except Undecodable as error:
                self._give_up(each, f"It cannot be read: {error}.")
                continue
            if delivery.task.type not in self._task_types:
                reason = f"No handler is registered for type '{delivery.task.shown_type}'."
                self._give_up(each, reason, delivery.task)
                continue
            self._hand.take(delivery)
            if self._idles() or self._hand.alone is not None:
                continue  # surplus, given back in the next turn
            if delivery.task.recoveries >= self._config.isolate_after:
                self._hand.isolate(delivery)
                self._offer_at = time.monotonic() + self._pace.hoarding_s
            else:
                self._hand.move(delivery, State.OUT)

    def _give_up(self, claimed: Claimed, reason: str, task: Task | None = None) -> None:
        if not self._outcomes.give_up(claimed, reason, task):
            self._kept.add(claimed.number)  # more is held than is in hand: read again at the next renewal

    def _reconcile(self) -> None:
        """Compare the tasks that Redis holds with those in hand, and follow Redis (see the module's docstring)."""
        unknown = set(self._consumer.held())
        self._kept.clear()
        for delivery in self._hand.owned():
            if delivery.number in unknown:
                unknown.remove(delivery.number)
                continue
            if delivery.started is None:
                self.journal.lost(delivery.task, "before it was begun here")
            self._hand.move(delivery, State.ADRIFT if delivery.state is State.OUT else State.GONE)
        unknown.discard(self._awaited or 0)
        self._admit(self._consumer.read(sorted(unknown)))
        self._unsure = False
