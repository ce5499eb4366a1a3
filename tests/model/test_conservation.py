"""I1 to I8 after every step of any story: the real queue and the model side by side, through crashes and lost replies.

Time moves only when a rule says so: leases and backoffs last an hour, and are ended by hand. Rules are few, and choose
among several deeds: Hypothesis leaves out about half of the rules in each story, and most chains of events would break.
"""

import itertools
from typing import Any

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
from support.model.model import State
from support.model.story import KEYS, OLD_MS, Story, end, end_in_the_model, entry_of
from zeroloss.invariants import Answer, Transition
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.enqueuer import Accepted, Submission
from zeroloss.reference.queue.errors import IdempotencyConflict, QueueFull
from zeroloss.reference.queue.reaper import Sweep
from zeroloss.reference.queue.task import new_task_id

PAYLOADS = ["1.10", "[]", '{"twice":1,"twice":2}', "12345678901234567890123", '"\\ud800 \\u0000"', '{ "a" : 1E5 }']
WISH = st.tuples(st.sampled_from(PAYLOADS), st.sampled_from([None, None, None, *KEYS]))
WISHES = st.lists(WISH, min_size=1, max_size=3)
SLOTS = st.integers(0, 2)  # three consumers at a time; whoever crashes is replaced under a new name
PICKS = st.integers(0, 30)  # an index, modulo whatever there is
MOSTLY = st.sampled_from([True, True, True, False])
VERBS = st.sampled_from(["ack", "fail", "fail", "dead_letter", "release"])


class QueueMachine(RuleBasedStateMachine):
    """`client` and `url` are set by the test: a machine needs a server to itself."""

    client: redis.Redis
    url: str

    def __init__(self) -> None:
        super().__init__()
        self.names = itertools.count(1)
        self.consumers: list[Consumer] = []
        self.hands: dict[str, list[bytes]] = {}  # what each consumer believes that it holds
        self.delivered: list[bytes] = []  # every element that was ever in anybody's hands

    @property
    def state(self) -> State:
        return self.story.state

    @initialize(
        retries=st.integers(0, 1), recoveries=st.integers(0, 1), tasks=st.integers(2, 5), claimed=st.integers(0, 2)
    )
    def it_begins(self, retries: int, recoveries: int, tasks: int, claimed: int) -> None:
        """In the middle of things, so that every rule has something to do."""
        self.client.flushdb()
        self.story = Story(self.client, self.url, max_retries=retries, max_recoveries=recoveries)
        self.queue = self.story.queue
        self.consumers = [self.somebody_new() for _ in range(3)]
        self.enqueue([(PAYLOADS[number % len(PAYLOADS)], None) for number in range(tasks)])
        self.story.look()
        for slot in range(3):
            self.settle(slot, done=0, limit=claimed, renewed=True, reply_arrives=True)

    def somebody_new(self) -> Consumer:
        consumer = Consumer(self.queue.own_client, self.queue.config, f"w{next(self.names)}")
        assert consumer.renew().lapsed
        self.hands[consumer.name] = []
        self.story.names.append(consumer.name)
        self.story.state = model.renew(self.state, consumer.name)
        return consumer

    def somebody(self, pick: int) -> str:
        """Any consumer that ever was, dead or alive; every second time one that holds something."""
        names = list(self.hands)
        if pick % 2:
            names = [name for name in names if self.state.holding(name)] or names
        return names[pick // 2 % len(names)]

    def name_of(self, slot: int) -> str:
        return self.consumers[slot].name

    @rule(wishes=WISHES)
    def enqueue(self, wishes: list[model.Wish]) -> None:
        submissions = [Submission(payload_json=text, idempotency_key=key) for text, key in wishes]
        try:
            outcomes: Any = self.queue.enqueuer.enqueue_many(submissions)
            made = [outcome.task_id if isinstance(outcome, Accepted) else new_task_id() for outcome in outcomes]
        except QueueFull:
            outcomes, made = None, [new_task_id() for _ in wishes]
        self.story.state, expected = model.enqueue(self.state, wishes, made)
        if expected is None or outcomes is None:
            assert outcomes is expected, "full for one and not for the other"
            return
        for (text, key), outcome, task_id in zip(wishes, outcomes, expected, strict=True):
            accepted = isinstance(outcome, Accepted)
            assert accepted or isinstance(outcome, IdempotencyConflict)
            assert (outcome.task_id if accepted else None) == task_id
            if accepted and not outcome.replayed:
                self.story.accept(task_id, text)
            if key:
                self.story.answers.append(Answer(key, text, task_id))

    @rule(slot=SLOTS, done=st.integers(0, 2), limit=st.integers(0, 5), renewed=MOSTLY, reply_arrives=MOSTLY)
    def settle(self, slot: int, done: int, limit: int, renewed: bool, reply_arrives: bool) -> None:
        """Ack some and claim some, in one round trip.

        When the reply is lost it happened all the same: what was acked is still in the worker's hands, and what was
        claimed is not.
        """
        if renewed:
            self._renew(slot)
        name = self.name_of(slot)
        elements = self.hands[name][:done]
        claimed = self._settle(slot, elements, limit)
        if reply_arrives:
            self.hands[name] = self.hands[name][done:] + claimed
            self.delivered += claimed

    def _settle(self, slot: int, elements: list[bytes], limit: int) -> list[bytes]:
        name, before = self.name_of(slot), self.story.held(self.name_of(slot))
        settlement = self.consumers[slot].settle(elements, limit)
        entries = [entry_of(element) for element in elements]
        lives = self.state.lives(name)
        self.story.state, (lost, claimed) = model.settle(self.state, name, entries, limit)
        assert settlement.lease_lives == lives
        assert [entry_of(element) for element in settlement.lost] == lost
        assert [entry_of(element) for element in settlement.claimed] == claimed
        self.story.transitions += [Transition("ack", name, e, before, e not in settlement.lost) for e in elements]
        self.story.claimed(claimed)
        return settlement.claimed

    @rule(slot=SLOTS, does=st.sampled_from(["renew", "read_its_list", "leave", "crash", "crash_and_be_seen"]))
    def a_consumer(self, slot: int, does: str) -> None:
        getattr(self, f"_{does}")(slot)

    def _renew(self, slot: int) -> None:
        name = self.name_of(slot)
        renewal = self.consumers[slot].renew()
        assert (renewal.lapsed, renewal.holding) == (not self.state.lives(name), len(self.state.holding(name)))
        self.story.state = model.renew(self.state, name)

    def _read_its_list(self, slot: int) -> None:
        """What a worker does after a lost reply: whatever lies there is its work, and nothing else is."""
        held = self.consumers[slot].held()
        assert [entry_of(element) for element in held] == list(self.state.holding(self.name_of(slot)))
        self.hands[self.name_of(slot)] = held
        self.delivered += held

    def _leave(self, slot: int) -> None:
        self.story.state, left = model.leave(self.state, self.name_of(slot))
        assert self.consumers[slot].leave() == left
        self.consumers[slot] = self.somebody_new()

    def _crash(self, slot: int) -> None:
        """Its lease runs on, its list stays, and somebody else takes its place."""
        self.consumers[slot] = self.somebody_new()

    def _crash_and_be_seen(self, slot: int) -> None:
        """Its parent ends its lease, and somebody sweeps."""
        self._end_lease(self.name_of(slot))
        self._crash(slot)
        self.all_is_well()
        self._sweep(self.name_of(slot))

    @precondition(lambda self: any(self.hands[consumer.name] for consumer in self.consumers))
    @rule(verbs=st.lists(st.tuples(PICKS, VERBS), min_size=1, max_size=4))
    def end_some(self, verbs: list[tuple[int, str]]) -> None:
        for pick, verb in verbs:
            hands = [(consumer, element) for consumer in self.consumers for element in self.hands[consumer.name]]
            if hands:
                consumer, element = hands[pick % len(hands)]
                self.hands[consumer.name].remove(element)
                self._act(consumer, verb, element)

    @precondition(lambda self: self.delivered)
    @rule(pick=PICKS, verbs=st.lists(st.tuples(PICKS, VERBS), min_size=1, max_size=4))
    def a_paused_consumer_comes_back(self, pick: int, verbs: list[tuple[int, str]]) -> None:
        """Anybody, also a dead one, tries to end anything that was ever delivered to anybody."""
        zombie = Consumer(self.queue.own_client, self.queue.config, self.somebody(pick))
        for which, verb in verbs:
            self._act(zombie, verb, self.delivered[-1 - which % len(self.delivered)])

    def _act(self, consumer: Consumer, verb: str, element: bytes) -> None:
        name, before = consumer.name, self.story.held(consumer.name)
        self.story.state, expected = end_in_the_model(self.state, name, verb, entry_of(element))
        assert end(consumer, verb, element) == expected
        self.story.transitions.append(Transition(verb, name, element, before, expected))
        self.story.undisturbed &= verb == "ack"
        self.all_is_well()

    @rule(slot=SLOTS, kept=st.integers(0, 1))
    def release_what_was_not_begun(self, slot: int, kept: int) -> None:
        name = self.name_of(slot)
        self.hands[name], elements = self.hands[name][:kept], self.hands[name][kept:]
        self.story.state, released = model.release(self.state, name, [entry_of(element) for element in elements])
        assert self.consumers[slot].release(elements) == released
        self.story.undisturbed &= released == 0

    @rule(pick=PICKS, does=st.sampled_from(["end_lease", "grow_old", "lose_entry", "get_a_late_task", "end_backoffs"]))
    def fate(self, pick: int, does: str) -> None:
        getattr(self, f"_{does}")(self.somebody(pick))

    def _end_lease(self, name: str) -> None:
        assert self.queue.reaper.expire(name) == self.state.lives(name)
        self.story.state = model.expire(self.state, name)

    def _grow_old(self, name: str) -> None:
        if name in self.state.leases:
            self.client.zincrby(self.queue.keys.consumers, -OLD_MS, name)
            self.story.state = model.grow_old(self.state, name)

    def _lose_entry(self, name: str) -> None:
        """A server that came back without its last writes."""
        self.client.zrem(self.queue.keys.consumers, name)
        self.story.state = model.lose_entry(self.state, name)

    def _get_a_late_task(self, name: str) -> None:
        """Redis serves a wait that was paused; as BLMOVE would."""
        self.client.lmove(self.queue.keys.pending, self.queue.keys.processing(name), "RIGHT", "LEFT")
        self.story.state = model.hand_over_late(self.state, name)
        self.story.undisturbed = False

    @rule(pick=PICKS, does=st.sampled_from(["recover", "promote_all", "promote", "adopt", "sweep"]))
    def a_reaper(self, pick: int, does: str) -> None:
        getattr(self, f"_{does}")(self.somebody(pick))

    def _recover(self, name: str) -> None:
        self.story.state, recovered = model.recover(self.state, name)
        assert self.queue.reaper.recover(name) == recovered
        self.story.undisturbed &= recovered == 0

    def _end_backoffs(self, _: str) -> None:
        for element in self.story.not_due():
            self.client.zadd(self.queue.keys.delayed, {element: len(self.state.due) + 1})
            self.story.state = model.backoff_ends(self.state, entry_of(element))

    def _promote_all(self, name: str) -> None:
        self._end_backoffs(name)
        self._promote(name)

    def _promote(self, _: str) -> None:
        self.story.state, promoted = model.promote(self.state)
        assert self.queue.reaper.promote() == promoted

    def _adopt(self, _: str) -> None:
        self.story.state, adopted = model.adopt(self.state)
        assert self.queue.reaper.adopt() == adopted

    def _sweep(self, _: str) -> None:
        """Recovery over all of them, in the order in which their leases ended, then the due retries (I4)."""
        recovered = 0
        dead = self.story.in_order_of_death()
        self.story.swept = [entry.id for name in dead for entry in self.state.holding(name)]
        for name in dead:
            self.story.state, moved = model.recover(self.state, name)
            recovered += moved
        self.story.state, promoted = model.promote(self.state)
        assert self.queue.reaper.sweep() == Sweep(recovered, promoted)
        self.story.undisturbed &= recovered == 0

    @precondition(lambda self: self.state.dead)
    @rule(pick=PICKS, does=st.sampled_from(["requeue", "requeue", "requeue_all", "purge"]))
    def an_operator(self, pick: int, does: str) -> None:
        entry = self.state.dead[pick % len(self.state.dead)]
        entries = self.state.dead[::-1] if does == "requeue_all" else [entry]
        self.story.state = (model.purge if does == "purge" else model.requeue)(self.state, entries)
        self.story.purged.update(entry.id for entry in entries if does == "purge")
        letters = self.queue.dead_letters
        assert (letters.requeue_all() if does == "requeue_all" else getattr(letters, does)(entry.id)) == len(entries)

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
@pytest.mark.timeout(600)  # a story that fails is made shorter first, for up to five minutes
def test_every_story_leaves_the_real_queue_as_the_model_says_and_no_law_broken(
    server: Any, client: redis.Redis
) -> None:
    stories = settings().max_examples * (3 if server.kind == "embedded" else 1)
    machine = type("QueueMachine", (QueueMachine,), {"client": client, "url": server.url})
    run_state_machine_as_test(machine, settings=settings(max_examples=stories, stateful_step_count=50))
