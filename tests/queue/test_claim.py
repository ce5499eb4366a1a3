"""Claim: from pending into the consumer's own list, oldest first (I7), and only with a living lease."""

from itertools import chain

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from support.processes.relay import Relay
from support.queue_fixtures import Queue, ids, payloads
from zeroloss.invariants import order
from zeroloss.reference.queue.consumer import Consumer


@pytest.mark.law("I7")
def test_the_oldest_task_is_claimed_first(queue: Queue) -> None:
    queue.enqueue("a", "b", "c")
    consumer = queue.consumer()
    assert payloads([consumer.claim()[0] for _ in range(3)]) == ["a", "b", "c"]


@pytest.mark.law("I7")
def test_many_are_claimed_in_the_order_they_were_accepted(queue: Queue) -> None:
    accepted = queue.enqueue(*range(20))
    consumer = queue.consumer()
    claimed = ids(consumer.claim(7) + consumer.claim(100))
    assert order(accepted, claimed) == []
    assert claimed == accepted


@pytest.mark.law("I1")
def test_a_claimed_task_is_in_the_claimer_s_list_and_nowhere_else(queue: Queue) -> None:
    queue.enqueue("a")
    (element,) = queue.consumer().claim()
    assert queue.held() == [element]
    assert queue.pending() == []


def test_no_more_are_claimed_than_were_asked_for(queue: Queue) -> None:
    queue.enqueue("a", "b", "c")
    assert payloads(queue.consumer().claim(2)) == ["a", "b"]
    assert payloads(queue.pending()) == ["c"]


@pytest.mark.parametrize("limit", [0, 1, 64])
def test_an_empty_queue_yields_nothing_at_once(queue: Queue, limit: int) -> None:
    assert queue.consumer().claim(limit) == []


def test_a_claim_of_none_claims_nothing(queue: Queue) -> None:
    queue.enqueue("a")
    assert queue.consumer().claim(0) == []
    assert payloads(queue.pending()) == ["a"]


def test_more_than_lua_s_stack_holds_are_claimed_in_order(queue: Queue) -> None:
    queue.client.lpush(queue.keys.pending, *range(9_000))
    claimed = queue.consumer().claim(9_000)
    assert claimed == [b"%d" % number for number in range(9_000)] == queue.held()


@pytest.mark.law("I1")
def test_two_consumers_never_get_the_same_task(queue: Queue) -> None:
    accepted = queue.enqueue(*range(10))
    first, second = queue.consumer("w1"), queue.consumer("w2")
    claimed = [ids(consumer.claim(2)) for consumer in (first, second, first, second, first)]
    assert list(chain(*claimed)) == accepted


@pytest.mark.law("I3")
def test_without_ever_having_had_a_lease_nothing_is_claimed(queue: Queue) -> None:
    queue.enqueue("a")
    settlement = Consumer(queue.own_client, queue.config, "stranger").settle([], 1)
    assert (settlement.lease_lives, settlement.claimed) == (False, [])
    assert payloads(queue.pending()) == ["a"]


@pytest.mark.law("I3")
def test_with_an_ended_lease_nothing_is_claimed_until_it_is_renewed(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    queue.reaper.expire("w1")
    assert consumer.settle([], 1).lease_lives is False
    assert payloads(queue.pending()) == ["a"]
    consumer.renew()
    assert payloads(consumer.claim()) == ["a"]


def test_a_waiting_claim_takes_the_oldest_task_at_once(queue: Queue) -> None:
    queue.enqueue("a", "b")
    element = queue.consumer().claim_waiting(5_000)
    assert payloads([element]) == ["a"]
    assert queue.held() == [element]


def test_a_waiting_claim_yields_nothing_when_its_time_is_over(queue: Queue) -> None:
    assert queue.consumer().claim_waiting(10) is None


def test_claimed_one_by_one_or_waiting_the_oldest_is_the_first_of_what_is_held(queue: Queue) -> None:
    queue.enqueue("a", "b", "c")
    consumer = queue.consumer()
    consumer.claim()
    consumer.claim_waiting(1_000)
    consumer.claim()
    assert payloads(consumer.held()) == ["a", "b", "c"]


@pytest.mark.law("I1")
@pytest.mark.parametrize("command", ["EVALSHA", "BLMOVE"])
def test_a_task_whose_claim_got_no_reply_is_in_the_claimer_s_own_list(queue: Queue, command: str) -> None:
    queue.consumer().claim()  # the script is known
    queue.enqueue("a", "b")
    with Relay(queue.config.redis_url) as relay:
        relayed = queue.configured(redis_url=relay.url)
        consumer = relayed.consumer("w2")
        relay.swallow(command)
        with pytest.raises(RedisConnectionError):
            consumer.claim() if command == "EVALSHA" else consumer.claim_waiting(1_000)
        assert relay.swallowed == 1
        assert payloads(consumer.held()) == ["a"]
    assert payloads(queue.pending()) == ["b"]


def test_scripts_that_the_server_forgot_are_sent_again_without_notice(queue: Queue) -> None:
    queue.enqueue("a", "b")
    consumer = queue.consumer()
    consumer.claim()
    queue.client.script_flush()
    assert payloads(consumer.claim()) == ["b"]
