"""I1 to I8 after every step of random stories: the real queue beside the model, through crashes and lost replies.

Only rules move the time: leases and backoffs last an hour, and rules end them. Each rule chooses among several actions,
because Hypothesis disables about half of the rules in each story: with many rules most chains of events would break.
"""

import itertools
from typing import Any
from unittest import mock

import pytest
import redis
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.model import model
from support.model.model import Settled, State, Wish
from support.model.story import HOUR_MS, KEYS, Story, deliveries, end, end_in_the_model, entry_of
from support.queue_fixtures import Queue, payloads
from zeroloss.invariants import Answer
from zeroloss.reference.queue import reaper
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import Claimed
from zeroloss.reference.queue.enqueuing.submission import AT_ONCE, Accepted, Submission, due_in
from zeroloss.reference.queue.errors import IdempotencyConflict, QueueFull
from zeroloss.reference.queue.reaper import Sweep
from zeroloss.reference.queue.task import new_task_id

PAYLOADS = [
    "1.10",
    "[]",
    '{"twice":1,"twice":2}',
    "12345678901234567890123",
    '"\\ud83e\\udde8 \\u0000"',
    '{ "a" : 1E5 }',
]
PRIORITIES = st.sampled_from(["default", "default", "high", "low"])
WISH = st.builds(
    Wish,
    st.sampled_from(PAYLOADS),
    st.sampled_from([None, None, None, *KEYS]),
    PRIORITIES,
    st.sampled_from([False, False, False, True]),
)
WISHES = st.lists(WISH, min_size=1, max_size=3)
SLOTS = st.integers(0, 2)  # three consumers at a time; a crashed one is replaced under a new name
PICKS = st.integers(0, 30)  # an index, modulo the number of candidates
MOSTLY = st.sampled_from([True, True, True, False])
VERBS = st.sampled_from(["ack", "fail", "fail", "dead_letter", "release"])
BATCH = 2  # tasks that one script of a recovery moves


class QueueMachine(RuleBasedStateMachine):
    """The state machine. The test sets `client` and `url`: a machine needs a server of its own."""

    client: redis.Redis
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.names = itertools.count(1)
        self.consumers: list[Consumer] = []
        self.everybody: dict[str, Consumer] = {}  # all consumers, dead or alive
        self.hands: dict[str, list[Claimed]] = {}  # tasks that each consumer believes it holds
        self.delivered: dict[str, list[Claimed]] = {}  # all deliveries to each consumer
        self.given: dict[str, int] = {}  # highest number that each consumer has sent in a claim

    @property
    def state(self) -> State:
        return self.story.state

    @initialize(
        retries=st.integers(0, 1), recoveries=st.integers(0, 1), tasks=st.integers(2, 5), claimed=st.integers(0, 2)
    )
    def it_begins(self, retries: int, recoveries: int, tasks: int, claimed: int) -> None:
        """Begin with tasks and claims, so that every rule can act."""
        self.client.flushdb()
        self.story = Story(self.client, self.url, max_retries=retries, max_recoveries=recoveries)
        self.queue = self.story.queue
        self.consumers = [self.somebody_new() for _ in range(3)]
        self.enqueue([Wish(PAYLOADS[number % len(PAYLOADS)]) for number in range(tasks)])
        self.story.look()
        for slot in range(3):
            self.settle(slot, done=0, limit=claimed, renewed=True, reply_arrives=True)

    def somebody_new(self) -> Consumer:
        consumer = Consumer(self.queue.own_client, self.queue.config, f"w{next(self.names)}")
        assert consumer.renew().lapsed
        self.everybody[consumer.name] = consumer
        self.hands[consumer.name], self.delivered[consumer.name], self.given[consumer.name] = [], [], 0
        self.story.names.append(consumer.name)
        self.story.state = model.renew(self.state, consumer.name)
        return consumer

    def somebody(self, pick: int) -> str:
        """Return the name of any consumer, dead or alive; for odd picks, of one that holds a task."""
        names = list(self.hands)
        if pick % 2:
            names = [name for name in names if self.state.holding(name)] or names
        return names[pick // 2 % len(names)]

    def name_of(self, slot: int) -> str:
        return self.consumers[slot].name

    @rule(wishes=WISHES)
    def enqueue(self, wishes: list[Wish]) -> None:
        submissions = [
            Submission(
                payload_json=wish.payload,
                idempotency_key=wish.key,
                priority=wish.priority,
                due=due_in(HOUR_MS) if wish.later else AT_ONCE,
            )
            for wish in wishes
        ]
        try:
            outcomes: Any = self.queue.enqueuer.enqueue_many(submissions)
            made = [outcome.task_id if isinstance(outcome, Accepted) else new_task_id() for outcome in outcomes]
        except QueueFull:
            outcomes, made = None, [new_task_id() for _ in wishes]
        before = self.state
        self.story.state, expected = model.enqueue(before, wishes, made)
        self.story.rung |= self.state is not before
        if expected is None or outcomes is None:
            assert outcomes is expected, "full for one and not for the other"
            return
        for wish, outcome, task_id in zip(wishes, outcomes, expected, strict=True):
            accepted = isinstance(outcome, Accepted)
            assert accepted or isinstance(outcome, IdempotencyConflict)
            assert (outcome.task_id if accepted else None) == task_id
            if accepted and not outcome.replayed:
                self.story.accept(task_id, wish)
            if wish.key:
                self.story.answers.append(Answer(wish.key, repr(wish), task_id))

    @rule(payload=st.sampled_from(PAYLOADS), priority=PRIORITIES)
    def a_foreign_producer_pushes_bare_json(self, payload: str, priority: str) -> None:
        self.story.push_bare(new_task_id(), payload, priority)

    @rule(slot=SLOTS, done=st.integers(0, 2), limit=st.integers(0, 5), renewed=MOSTLY, reply_arrives=MOSTLY)
    def settle(self, slot: int, done: int, limit: int, renewed: bool, reply_arrives: bool) -> None:
        """Ack some tasks and claim others, in one round trip.

        After a lost reply the worker still has the acked tasks in hand, and does not have the claimed ones.
        """
        if renewed:
            self._renew(slot)
        name = self.name_of(slot)
        numbers, before = [number for number, _ in self.hands[name][:done]], self.story.held(name)
        first, turn = self.given[name] + 1, self.consumers[slot]._turn
        self.given[name] += limit
        settlement = self.consumers[slot].settle(numbers, limit)
        self.story.state, settled = model.settle(self.state, name, first, numbers, limit, turn)
        for number in numbers:
            self.story.acted("ack", name, number, before, number not in settlement.lost)
        self._compare(settlement, settled)
        if reply_arrives:
            self._arrives(name, settlement.claimed, done)

    def _compare(self, settlement: Any, settled: Settled) -> None:
        assert (settlement.lease_lives, tuple(settlement.lost)) == (settled.lives, settled.lost)
        assert deliveries(settlement.claimed) == settled.claimed
        self.story.claimed(settled.claimed)
        self.story.rung = True

    def _arrives(self, name: str, claimed: list[Claimed], done: int = 0) -> None:
        self.hands[name] = self.hands[name][done:] + claimed
        self.delivered[name] += claimed

    @rule(slot=SLOTS, renewed=MOSTLY, reply_arrives=MOSTLY)
    def wait(self, slot: int, renewed: bool, reply_arrives: bool) -> None:
        """Wait for the bell, with a claim behind it."""
        if renewed:
            self._renew(slot)
        name = self.name_of(slot)
        self.given[name] += 1
        claimed = self._claim_waiting(name, self.consumers[slot].reserve(1))
        if reply_arrives:
            self._arrives(name, claimed)

    @rule(pick=PICKS, number=st.integers(1, 40))
    def a_request_is_late_or_repeated(self, pick: int, number: int) -> None:
        """Repeat a claim of any consumer, dead or alive, under an earlier number. No process waits for the reply."""
        name = self.somebody(pick)
        if self.given[name]:
            self._claim_waiting(name, self.given[name] - number % min(4, self.given[name]))

    def _claim_waiting(self, name: str, number: int) -> list[Claimed]:
        consumer = self.everybody[name]
        turn = consumer._turn
        settlement = consumer.claim_waiting(number, 1)
        self.story.state, settled = model.settle(model.take_bell(self.state), name, number, [], 1, turn)
        self._compare(settlement, settled)
        return settlement.claimed

    @rule(slot=SLOTS, does=st.sampled_from(["renew", "read_its_hash", "leave", "crash", "crash_and_be_seen"]))
    def a_consumer(self, slot: int, does: str) -> None:
        getattr(self, f"_{does}")(slot)

    def _renew(self, slot: int) -> None:
        name = self.name_of(slot)
        renewal = self.consumers[slot].renew()
        assert (renewal.lapsed, renewal.holding) == (not self.state.lives(name), len(self.state.holding(name)))
        self.story.state = model.renew(self.state, name, self.given[name])

    def _read_its_hash(self, slot: int) -> None:
        """Reconcile as a worker does after a lost reply: its work is exactly the contents of its hash."""
        consumer = self.consumers[slot]
        held = [*consumer.read(consumer.held())]
        assert deliveries(held) == self.state.holding(consumer.name)
        self.hands[consumer.name] = held
        self.delivered[consumer.name] += held

    def _leave(self, slot: int) -> None:
        """Leave with an ack of the first task in hand. Give the next two back, and keep the rest."""
        name, hand = self.name_of(slot), self.hands[self.name_of(slot)]
        done, unbegun = [number for number, _ in hand[:1]], [number for number, _ in hand[1:3]]
        before = self.story.held(name)
        self.story.state, expected = model.leave(self.state, name, done, unbegun)
        departure = self.consumers[slot].leave(done, unbegun)
        assert (departure.left, tuple(departure.lost)) == expected
        for number in done:
            self.story.acted("ack", name, number, before, number not in departure.lost)
        self.story.undisturbed &= not any(number in before for number in unbegun)
        self.story.rung = True
        self.consumers[slot] = self.somebody_new()

    def _crash(self, slot: int) -> None:
        """Replace a worker by another one; its lease and its hash remain."""
        self.consumers[slot] = self.somebody_new()

    def _crash_and_be_seen(self, slot: int) -> None:
        """Crash a worker whose parent sees it, and recovers its tasks before the end of the lease."""
        name = self.name_of(slot)
        self.story.swept = [entry.id for _, entry in self.state.holding(name)]
        self._recover(name, is_dead=True)
        self._crash(slot)

    @precondition(lambda self: any(self.hands[consumer.name] for consumer in self.consumers))
    @rule(verbs=st.lists(st.tuples(PICKS, VERBS), min_size=1, max_size=4))
    def end_some(self, verbs: list[tuple[int, str]]) -> None:
        for pick, verb in verbs:
            hands = [(consumer.name, each) for consumer in self.consumers for each in self.hands[consumer.name]]
            if hands:
                name, claimed = hands[pick % len(hands)]
                self.hands[name].remove(claimed)
                self._act(name, verb, claimed)

    @precondition(lambda self: any(self.delivered.values()))
    @rule(pick=PICKS, verbs=st.lists(st.tuples(PICKS, VERBS), min_size=1, max_size=4))
    def a_paused_consumer_comes_back(self, pick: int, verbs: list[tuple[int, str]]) -> None:
        """Let any consumer, dead or alive, try to end any task that was ever delivered to it."""
        names = [name for name, delivered in self.delivered.items() if delivered]
        name = names[pick % len(names)]
        for which, verb in verbs:
            self._act(name, verb, self.delivered[name][-1 - which % len(self.delivered[name])])

    def _act(self, name: str, verb: str, claimed: Claimed) -> None:
        before = self.story.held(name)
        self.story.state, expected = end_in_the_model(self.state, name, verb, claimed.number)
        assert end(self.everybody[name], verb, claimed) == expected
        self.story.acted(verb, name, claimed.number, before, expected)
        self.story.undisturbed &= verb == "ack"
        self.story.rung |= verb in ("ack", "release")
        self.all_is_well()

    @rule(slot=SLOTS, kept=st.integers(0, 1))
    def release_what_was_not_begun(self, slot: int, kept: int) -> None:
        name = self.name_of(slot)
        numbers = [number for number, _ in self.hands[name][kept:]]
        self.hands[name] = self.hands[name][:kept]
        if numbers:
            self.story.state, released = model.release(self.state, name, numbers)
            assert self.consumers[slot].release(numbers) == released
            self.story.undisturbed &= released == 0
            self.story.rung = True

    @rule(pick=PICKS, does=st.sampled_from(["end_lease", "lose_entry", "fall_due"]))
    def fate(self, pick: int, does: str) -> None:
        getattr(self, f"_{does}")(self.somebody(pick))

    def _end_lease(self, name: str) -> None:
        self.queue.expire(name)
        self.story.state = model.expire(self.state, name)

    def _lose_entry(self, name: str) -> None:
        """Remove a registry entry, as a manual change may."""
        self.client.zrem(self.queue.keys.consumers, name)
        self.story.state = model.lose_entry(self.state, name)

    @rule(pick=PICKS, does=st.sampled_from(["recover", "recover_some", "promote_all", "promote", "adopt", "sweep"]))
    def a_reaper(self, pick: int, does: str) -> None:
        getattr(self, f"_{does}")(self.somebody(pick))

    def _recover(self, name: str, *, is_dead: bool = False) -> None:
        expected = self._recover_in_the_model(name, is_dead=is_dead)
        with mock.patch.object(reaper, "MOVE_BATCH", BATCH):
            assert self.queue.reaper.recover(name, is_dead=is_dead) == expected

    def _recover_in_the_model(self, name: str, *, is_dead: bool = False) -> int:
        refused = self.state.lives(name) and not is_dead
        total, left = 0, 1
        while left:
            self.story.state, (moved, left) = model.recover(self.state, name, BATCH, is_dead=is_dead)
            total += moved
            if refused:
                break
        self.story.undisturbed &= total == 0
        self.story.rung |= not refused
        return total

    def _recover_some(self, name: str) -> None:
        """Recover with a reaper that dies after its first script."""
        script, refused = reaper._RECOVER, self.state.lives(name)
        self.story.state, (moved, _) = model.recover(self.state, name, BATCH)
        with (
            mock.patch.object(reaper, "MOVE_BATCH", BATCH),
            mock.patch.object(reaper, "_RECOVER", lambda *given: (script(*given)[0], 0, b"")),
        ):
            assert self.queue.reaper.recover(name) == moved
        self.story.undisturbed &= moved == 0
        self.story.rung |= not refused

    def _fall_due(self, _: str) -> None:
        for entry in self.story.not_due():
            self.client.zadd(self.queue.keys.delayed, {entry: len(self.state.due) + 1})
            self.story.state = model.falls_due(self.state, entry_of(entry))

    def _promote_all(self, name: str) -> None:
        self._fall_due(name)
        self._promote(name)

    def _promote(self, _: str) -> None:
        assert self.queue.reaper.promote() == self._promote_in_the_model()

    def _promote_in_the_model(self) -> int:
        self.story.state, promoted = model.promote(self.state)
        self.story.rung |= promoted > 0
        return promoted

    def _adopt(self, _: str) -> None:
        self.story.state, adopted = model.adopt(self.state)
        assert self.queue.reaper.adopt() == adopted

    def _sweep(self, _: str) -> None:
        """Sweep: recover all dead consumers, in the order in which their leases ended, and promote due tasks (I4)."""
        dead = self.story.in_order_of_death()
        self.story.swept = [entry.id for name in dead for _, entry in self.state.holding(name)]
        recovered = sum(self._recover_in_the_model(name) for name in dead)
        promoted = self._promote_in_the_model()
        with mock.patch.object(reaper, "MOVE_BATCH", BATCH):
            assert self.queue.reaper.sweep() == Sweep(recovered, promoted)

    @precondition(lambda self: self.state.dead)
    @rule(pick=PICKS, does=st.sampled_from(["requeue", "requeue", "requeue_all", "purge"]))
    def an_operator(self, pick: int, does: str) -> None:
        place = pick % len(self.state.dead)
        letters = self.state.dead[::-1] if does == "requeue_all" else [self.state.dead[place]]
        self.story.state = (model.purge if does == "purge" else model.requeue)(self.state, letters)
        self.story.purged.update(letter.entry.id for letter in letters if does == "purge")
        self.story.rung |= does != "purge"
        verb = getattr(self.queue.dead_letters, does)
        assert verb(*[self.story.letter_ids()[place]] * (does != "requeue_all")) == len(letters)

    @rule()
    def the_server_forgets_the_scripts(self) -> None:
        self.client.script_flush()

    @invariant()
    def all_is_well(self) -> None:
        self.story.look()
        self.story.compare()
        assert self.story.violations() == []

    def teardown(self) -> None:
        self.queue.own_client.close()


@pytest.mark.law("I1", "I2", "I3", "I6")
@pytest.mark.timeout(600)  # shrinking a failed story takes up to five minutes
def test_every_story_leaves_the_real_queue_as_the_model_says_and_no_law_broken(
    server: Any, client: redis.Redis
) -> None:
    stories = settings().max_examples * (3 if server.kind == "embedded" else 1)
    machine = type("QueueMachine", (QueueMachine,), {"client": client, "url": server.url})
    run_state_machine_as_test(machine, settings=settings(max_examples=stories, stateful_step_count=50))


@pytest.mark.law("I1", "I3")
def test_a_claim_of_before_a_recovery_is_refused_when_the_network_repeats_it(queue: Queue) -> None:
    """The worker may still have the first task in hand under this number, and would ack the second in its place."""
    queue.enqueue("first", "second")
    consumer = queue.consumer()
    number = consumer.reserve(1)
    (first,) = consumer.claim_waiting(number, 1).claimed
    assert queue.kill(consumer) == 1
    assert consumer.renew().lapsed
    assert consumer.claim_waiting(number, 1).claimed == []
    assert consumer.settle([first.number], 1).lost == [number]
    assert payloads(queue.held()) == ["first"]
    assert queue.rings()
