"""Ack, and ack with the next claim in one round trip: only the holder of a task can finish it (I3)."""

import json

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from support.processes.relay import Relay
from support.queue_fixtures import Queue, payloads, read
from zeroloss.invariants import Transition, ownership
from zeroloss.reference.queue.consuming.settling import Claimed
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.errors import LeaseLost


@pytest.mark.law("I1")
def test_an_acked_task_is_gone_and_counted(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    consumer.ack(queue.claim(consumer))
    assert queue.held() == queue.pending() == queue.dead() == queue.delayed() == []
    assert queue.counters() == {"enqueued": 1, "completed": 1}


def test_done_and_next_are_one_round_trip(queue: Queue) -> None:
    queue.enqueue("a", "b", "c", "d")
    consumer = queue.consumer()
    done = numbers(consumer.claim(2))
    calls_before = queue.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    settlement = consumer.settle(done, 2)
    assert queue.client.info("commandstats")["cmdstat_evalsha"]["calls"] == calls_before + 1
    assert settlement.lost == []
    assert payloads(settlement.claimed) == ["c", "d"]
    assert queue.held() == [each.entry for each in settlement.claimed]
    assert queue.counters()["completed"] == 2


def test_an_ack_alone_claims_nothing(queue: Queue) -> None:
    queue.enqueue("a", "b")
    consumer = queue.consumer()
    consumer.ack(queue.claim(consumer))
    assert (queue.held(), payloads(queue.pending())) == ([], ["b"])


def test_a_running_task_stays_held(queue: Queue) -> None:
    queue.enqueue("slow", "quick", "next")
    consumer = queue.consumer()
    _, quick = consumer.claim(2)
    consumer.settle([quick.number], 1)
    assert payloads(queue.held()) == ["slow", "next"]


def test_more_done_tasks_than_lua_s_stack_holds_are_acked_in_one_call(queue: Queue) -> None:
    queue.push(*[b'{"id":"%d"}' % number for number in range(9_000)])
    consumer = queue.consumer()
    assert consumer.settle(numbers(consumer.claim(9_000)), 0).lost == []
    assert queue.counters()["completed"] == 9_000
    assert queue.held() == []


def numbers(claimed: list[Claimed]) -> list[int]:
    return [each.number for each in claimed]


def enqueue_sizes(queue: Queue, *sizes: int) -> None:
    queue.enqueuer.enqueue_many([Submission(payload_json=f'"{"x" * size}"', task_type="big") for size in sizes])


def test_a_claim_carries_about_a_mebibyte_and_says_that_more_is_pending(queue: Queue) -> None:
    enqueue_sizes(queue, *[100_000] * 40)
    settlement = queue.consumer().settle([], 40)
    assert len(settlement.claimed) == 10
    assert settlement.more
    assert len(queue.pending()) == 30


def test_a_task_above_the_limit_of_a_claim_is_claimed_alone(queue: Queue) -> None:
    queue = queue.configured(max_task_bytes=3_000_000)
    enqueue_sizes(queue, 2_000_000, 1, 2_000_000)
    consumer = queue.consumer()
    claims = [consumer.settle([], 9) for _ in range(4)]
    assert [len(claim.claimed) for claim in claims] == [1, 1, 1, 0]
    assert [claim.more for claim in claims] == [True, True, False, False]


@pytest.mark.law("I7")
def test_a_claim_of_many_small_tasks_keeps_their_order_and_says_that_no_more_is_pending(queue: Queue) -> None:
    queue.enqueue(*range(100))
    settlement = queue.consumer().settle([], 500)
    assert payloads(settlement.claimed) == [*range(100)]
    assert not settlement.more


@pytest.mark.law("I3")
def test_the_second_ack_of_a_task_finds_nothing(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    task = queue.claim(consumer)
    consumer.ack(task)
    with pytest.raises(LeaseLost) as caught:
        consumer.ack(task)
    assert (caught.value.consumer, caught.value.task_id) == ("w1", task.id)
    assert queue.counters()["completed"] == 1


@pytest.mark.law("I3")
def test_a_task_that_another_consumer_holds_cannot_be_acked(queue: Queue) -> None:
    queue.enqueue("a")
    task = queue.claim(queue.consumer("holder"))
    before = queue.everything()
    stranger = queue.consumer("stranger")
    queue.client.zrem(queue.keys.consumers, "stranger")
    with pytest.raises(LeaseLost):
        stranger.ack(task)
    assert queue.everything() == before


@pytest.mark.law("I3")
def test_a_recovered_task_cannot_be_acked_by_its_old_owner(queue: Queue) -> None:
    queue.enqueue("a")
    old = queue.consumer("old")
    stale = queue.claim(old)
    queue.kill(old)
    fresh = queue.claim(queue.consumer("new"))
    old.renew()
    before = queue.everything()
    with pytest.raises(LeaseLost):
        old.ack(stale)
    assert queue.everything() == before
    assert queue.held("new") == [fresh.entry]


@pytest.mark.law("I3")
def test_a_task_that_came_back_to_its_old_owner_is_not_acked_by_the_old_delivery(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    stale = queue.claim(consumer)
    queue.kill(consumer)
    consumer.renew()
    fresh = queue.claim(consumer)
    with pytest.raises(LeaseLost):
        consumer.ack(stale)
    consumer.ack(fresh)
    transitions = [
        Transition("ack", "w1", stale.number, [fresh.number], succeeded=False),
        Transition("ack", "w1", fresh.number, [fresh.number], succeeded=True),
    ]
    assert ownership(transitions) == []
    assert stale.attempt < fresh.attempt


def test_a_lost_task_is_named_and_the_held_ones_are_acked_all_the_same(queue: Queue) -> None:
    queue.enqueue("a", "b", "c")
    consumer = queue.consumer()
    first, second, third = numbers(consumer.claim(3))
    consumer.settle([second], 0)
    settlement = consumer.settle([first, second, 4_711, third], 0)
    assert settlement.lost == [second, 4_711]
    assert queue.held() == []
    assert queue.counters()["completed"] == 3


@pytest.mark.law("I3")
def test_a_task_still_held_after_the_lease_ended_can_be_acked(queue: Queue) -> None:
    queue.enqueue("a", "b")
    consumer = queue.consumer()
    done = numbers(consumer.claim())
    queue.expire("w1")
    settlement = consumer.settle(done, 1)
    assert (settlement.lease_lives, settlement.lost, settlement.claimed) == (False, [], [])
    assert payloads(queue.pending()) == ["b"]


def test_one_ack_finishes_one_of_two_tasks_with_the_same_bytes(queue: Queue) -> None:
    queue.enqueue("a")
    queue.push(*queue.pending())
    consumer = queue.consumer()
    first, second = consumer.claim(2)
    consumer.ack(read(first))
    assert queue.held() == [second.entry]


def test_an_ack_whose_reply_was_lost_finds_the_task_gone_and_changes_nothing(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer().claim(0)  # loads the script
    with Relay(queue.config.redis_url) as relay:
        consumer = queue.configured(redis_url=relay.url).consumer()
        task = queue.claim(consumer)
        relay.swallow("EVALSHA")
        with pytest.raises(RedisConnectionError):
            consumer.ack(task)
        assert consumer.held() == []
        with pytest.raises(LeaseLost):
            consumer.ack(task)
    assert queue.counters()["completed"] == 1


def test_an_unreadable_entry_is_held_and_settled_by_its_number(queue: Queue) -> None:
    queue.push(b"\xff\x00 no task")
    consumer = queue.consumer()
    claimed = consumer.claim()
    assert claimed[0].entry == b"\xff\x00 no task"
    assert consumer.settle(numbers(claimed), 0).lost == []
    assert queue.held() == []


def test_an_ack_of_a_megabyte_sends_no_payload(queue: Queue) -> None:
    queue.enqueue_text(json.dumps("x" * 1_000_000))
    consumer = queue.consumer()
    task = queue.claim(consumer)
    sent_before = queue.client.info("stats")["total_net_input_bytes"]
    consumer.ack(task)
    assert queue.client.info("stats")["total_net_input_bytes"] - sent_before < 10_000
    assert queue.held() == []


@pytest.mark.law("I3")
def test_a_late_ack_of_an_earlier_delivery_finishes_nothing_after_the_log_lost_its_end(queue: Queue) -> None:
    """The server restarts without the claim: the task is pending, and is claimed again under a higher number."""
    queue.enqueue("a")
    before = queue.client.lrange(queue.keys.pending, 0, -1)
    consumer = queue.consumer()
    stale = queue.claim(consumer)
    queue.client.delete(queue.keys.processing("w1"), queue.keys.numbers)
    queue.client.lpush(queue.keys.pending, *before)
    fresh = queue.claim(consumer)
    with pytest.raises(LeaseLost):
        consumer.ack(stale)
    assert queue.held() == [fresh.entry]
