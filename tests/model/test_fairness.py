"""Order and fairness on the real queue: which tasks may overtake a waiting task, and how many at most.

With several consumers, only tasks that were held when a task began to wait may overtake it: they may be given back or
recovered ahead of it. Retries go to the end, so failing tasks do not overtake others.
"""

import itertools
from typing import Any

import pytest
import redis
from hypothesis import example, given
from hypothesis import strategies as st
from support.queue_fixtures import Queue, ids, payloads
from zeroloss.invariants import order
from zeroloss.reference.queue import consumer as consumers
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import TURNS
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.task import PRIORITIES, Task

CONSUMERS = 3
ENDLESS = {"max_retries": 1_000, "max_recoveries": 1_000, "max_pending": 1_000}
DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["enqueue", "claim", "claim", "claim", "ack", "fail", "release", "die"]),
        st.integers(0, CONSUMERS - 1),
        st.integers(1, 3),
    ),
    min_size=10,
    max_size=40,
)


def claimed_ids(consumer: Consumer, limit: int) -> list[str]:
    return ids([each.entry for each in consumer.claim(limit)])


class Watched:
    """A queue with three consumers. Records, for each waiting task, the tasks held when it began to wait."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue.configured(**ENDLESS)
        self.names = itertools.count(1)
        self.consumers = [self.somebody_new() for _ in range(CONSUMERS)]
        self.accepted: list[str] = []
        self.retried: set[str] = set()
        self.may_pass: dict[str, set[str]] = {}  # waiting task -> tasks held when it began to wait
        self.passed: dict[str, set[str]] = {}  # waiting task -> later tasks claimed since then
        self.most_in_hands = 0

    def somebody_new(self) -> Consumer:
        return self.queue.consumer(f"w{next(self.names)}")

    def in_hands(self) -> set[str]:
        return {task for consumer in self.consumers for task in ids(self.queue.held(consumer.name))}

    def does(self, deed: str, slot: int, count: int) -> None:
        consumer, in_hands = self.consumers[slot], self.in_hands()
        held = self.queue.client.hgetall(self.queue.keys.processing(consumer.name))
        numbers = sorted(map(int, held))
        if deed == "enqueue":
            self.accepted += self.queue.enqueue(*range(count))
        elif deed == "claim":
            self.claimed(claimed_ids(consumer, count))
        elif deed == "release":
            assert consumer.release(numbers) == len(held)
        elif deed == "die":
            assert self.queue.kill(consumer) == len(held)
            self.consumers[slot] = self.somebody_new()
        else:
            for number in numbers[:count]:
                self.end(deed, consumer, Task(held[b"%d" % number], number))
        self.wait(in_hands)

    def end(self, deed: str, consumer: Consumer, task: Task) -> None:
        if deed == "ack":
            consumer.ack(task)
        else:
            self.retried.add(task.id)
            assert consumer.fail(task, "ValueError: no")
            self.queue.make_due()
            assert self.queue.reaper.promote() == 1

    def wait(self, in_hands: set[str]) -> None:
        """Record the tasks that began to wait; `in_hands` are the tasks held just before."""
        waiting = ids(self.queue.pending())
        for task in waiting:
            if task not in self.may_pass:
                self.may_pass[task], self.passed[task] = in_hands - {task}, set()
        for task in self.may_pass.keys() - set(waiting):
            del self.may_pass[task]
        self.most_in_hands = max(self.most_in_hands, len(in_hands))

    def claimed(self, tasks: list[str]) -> None:
        for task in tasks:
            for waiting in self.may_pass.keys() - self.retried - set(tasks[: tasks.index(task) + 1]):
                if self.accepted.index(waiting) < self.accepted.index(task):
                    self.passed[waiting].add(task)

    def check(self) -> None:
        for task in self.may_pass.keys() - self.retried:
            assert self.passed[task] <= self.may_pass[task], f"{task} was overtaken by a task that nobody had in hand"
            assert len(self.passed[task]) <= self.most_in_hands


@pytest.mark.law("I7")
@given(deeds=DEEDS)
@example(deeds=[("enqueue", 0, 3), ("claim", 0, 1), ("claim", 1, 1), ("die", 0, 1), ("die", 1, 1), ("claim", 2, 1)])
def test_a_waiting_task_is_overtaken_only_by_tasks_that_were_in_hands_when_it_began_to_wait(
    server: Any, client: redis.Redis, deeds: list[tuple[str, int, int]]
) -> None:
    client.flushall()
    queue = Queue(client, server.url)
    watched = Watched(queue)
    try:
        for deed, slot, count in [("enqueue", 0, 3), *deeds]:
            watched.does(deed, slot, count)
            watched.check()
    finally:
        watched.queue.own_client.close()
        queue.own_client.close()


def test_a_task_that_was_recovered_later_overtakes_one_that_was_recovered_before_it(queue: Queue) -> None:
    """An example of the overtaking that the bound allows."""
    queue.enqueue("a", "b", "c")
    first, second = queue.consumer("w1"), queue.consumer("w2")
    assert [queue.claim(consumer).payload for consumer in (first, second)] == ["a", "b"]
    assert queue.kill(first) + queue.kill(second) == 2
    assert payloads(queue.pending()) == ["b", "a", "c"]


@pytest.mark.law("I7")
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_one_consumer_sees_tasks_in_the_order_of_acceptance_whatever_it_claims_at_a_time(
    queue: Queue, batch: int
) -> None:
    accepted = queue.enqueue(*range(20))
    consumer = queue.consumer()
    seen: list[str] = []
    while claimed := consumer.claim(batch):
        numbers = [number for number, _ in claimed]
        assert consumer.release(numbers[1:]) == len(numbers) - 1
        assert consumer.settle(numbers[:1], 0).lost == []
        seen += ids([claimed[0].entry])
    assert seen == accepted
    assert order(accepted, seen) == []


@pytest.mark.law("I7")
def test_several_consumers_together_claim_in_the_order_of_acceptance(queue: Queue) -> None:
    accepted = queue.enqueue(*range(30))
    consumers = [queue.consumer(f"w{number}") for number in range(CONSUMERS)]
    seen = [task for consumer in consumers * 4 for task in claimed_ids(consumer, 3)]
    assert order(accepted, seen) == []
    assert seen == accepted


@pytest.mark.law("I5")
@pytest.mark.parametrize("failing", [1, 5, 20])
def test_a_task_waits_for_no_more_claims_than_there_were_tasks_before_it_however_the_others_fail(
    queue: Queue, failing: int
) -> None:
    """The worst case: all tasks before it fail, without backoff."""
    endless = queue.configured(**ENDLESS)
    endless.enqueue(*["fails"] * failing)
    consumer = endless.consumer()
    for _ in range(2 * failing):  # let the failing tasks circulate first
        consumer.fail(endless.claim(consumer), "ValueError: no")
        endless.make_due()
        endless.reaper.promote()
    before = len(endless.pending())
    endless.enqueue("succeeds")
    claims = 0
    while (task := endless.claim(consumer)).payload == "fails":
        claims += 1
        consumer.fail(task, "ValueError: no")
        endless.make_due()
        endless.reaper.promote()
    assert claims == before == failing


@pytest.mark.law("I5")
def test_tasks_that_kill_their_workers_hold_up_a_healthy_one_no_longer_than_their_budget(queue: Queue) -> None:
    """Recovered tasks go to the front, so the bound is their number times the deliveries each may have (I5)."""
    bounded = queue.configured(max_recoveries=2)
    bounded.enqueue("kills", "kills", "is healthy")
    for claims in itertools.count():
        consumer = bounded.consumer(f"w{claims}")
        if bounded.claim(consumer).payload == "is healthy":
            break
        assert bounded.kill(consumer) == 1
    assert claims == 2 * (2 + 1)
    assert payloads(bounded.dead()) == ["kills", "kills"]


def _enqueue(queue: Queue, priority: str, count: int, payload_json: str = "null") -> list[str]:
    outcomes: Any = queue.enqueuer.enqueue_many([Submission(payload_json, priority=priority) for _ in range(count)])
    return [outcome.task_id for outcome in outcomes]


class Flood:
    """More tasks of each priority than are claimed in the test, so a starving priority is never served."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue.configured(max_pending=100_000)
        self.accepted = {priority: _enqueue(self.queue, priority, 2_000) for priority in PRIORITIES}
        self.seen: dict[str, list[str]] = {priority: [] for priority in PRIORITIES}
        self.claims: list[str] = []  # priority of each claimed task

    def claim(self, consumer: Consumer, limit: int) -> int:
        claimed = [Task(entry, number) for number, entry in consumer.claim(limit)]
        for task in claimed:
            self.seen[task.priority].append(task.id)
        self.claims += [task.priority for task in claimed]
        return len(claimed)

    def check(self, at_least: int) -> None:
        """Check for `at_least` default and low tasks, at least 80 % high tasks, and order within each priority."""
        assert min(self.claims.count("default"), self.claims.count("low")) >= at_least
        assert self.claims.count("high") >= len(self.claims) * 0.8
        for priority, seen in self.seen.items():
            assert seen == self.accepted[priority][: len(seen)]
        self.queue.own_client.close()


@pytest.mark.law("I7")
@pytest.mark.parametrize(("limit", "claims"), [(1, 320), (3, 100), (16, 20), (256, 3)])
def test_of_sixteen_claimed_tasks_one_is_low_and_one_is_default_however_many_high_ones_wait(
    queue: Queue, limit: int, claims: int
) -> None:
    flood, consumer = Flood(queue), queue.consumer()
    for _ in range(claims):
        assert flood.claim(consumer, limit) == limit
    for place in range(len(flood.claims) - TURNS + 1):
        turn = flood.claims[place : place + TURNS]
        assert (turn.count("low"), turn.count("default")) == (1, 1)
    flood.check(limit * claims // TURNS)


@pytest.mark.law("I7")
def test_no_priority_starves_where_the_bytes_of_one_reply_allow_fewer_tasks_than_a_turn_has(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    flood, consumer = Flood(queue), queue.consumer()
    length = len(queue.pending()[0])
    monkeypatch.setattr(consumers, "MAX_TRANSFER_BYTES", 3 * length)
    for _ in range(100):
        assert flood.claim(consumer, 256) == 3
    flood.check(300 // TURNS)


@pytest.mark.law("I7")
def test_a_task_of_any_size_is_claimed_in_its_turn(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first task of a reply may exceed the size limit of replies, so a large task does not wait forever."""
    monkeypatch.setattr(consumers, "MAX_TRANSFER_BYTES", 1_000)
    (large,) = _enqueue(queue, "low", 1, f'"{"x" * 5_000}"')
    _enqueue(queue, "high", 200)
    consumer = queue.consumer()
    claimed: list[str] = []
    while large not in claimed:
        claimed += claimed_ids(consumer, 256)
    assert len(claimed) <= TURNS


@pytest.mark.law("I7")
@pytest.mark.parametrize("limit", [1, 4])
def test_no_priority_starves_where_each_consumer_claims_once_and_is_never_seen_again(queue: Queue, limit: int) -> None:
    """A consumer's first turn is random. Otherwise short-lived consumers would only serve high priority."""
    flood = Flood(queue)
    for number in range(1_200 // limit):
        flood.claim(queue.consumer(f"w{number}"), limit)
    # 75 are expected of each; the probability of fewer than 30 by chance is below one in ten million.
    flood.check(30)


@pytest.mark.law("I7")
def test_tasks_of_one_priority_alone_are_claimed_whosever_turn_it_is(queue: Queue) -> None:
    for priority in PRIORITIES:
        accepted = _enqueue(queue, priority, 40)
        assert claimed_ids(queue.consumer(f"of {priority}"), 40) == accepted


@pytest.mark.law("I7")
def test_high_tasks_go_first_but_for_two_turns_of_sixteen(queue: Queue) -> None:
    low, default, high = (_enqueue(queue, priority, 20) for priority in ("low", "default", "high"))
    claimed = claimed_ids(queue.consumer(), 60)
    assert len(set(claimed[:TURNS]) & set(high)) == TURNS - 2
    assert set(high) <= set(claimed[:23])
    assert set(default) <= set(claimed[:44])
    for accepted in (low, default, high):
        assert order(accepted, claimed) == []
