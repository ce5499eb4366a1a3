"""Claim: from pending into the consumer's own hash, oldest first (I7), and only with a live lease."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from support.processes.relay import Relay
from support.queue_fixtures import Queue, body, entry, ids, payloads, read
from support.waiting import wait_until
from zeroloss.invariants import order
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import Claimed
from zeroloss.reference.queue.errors import QueueError


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
def test_a_claimed_task_is_in_the_claimer_s_hands_and_nowhere_else(queue: Queue) -> None:
    queue.enqueue("a")
    (claimed,) = queue.consumer().claim()
    assert queue.held() == [claimed.entry]
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
    queue.push(*[b"%d" % number for number in range(9_000)])
    claimed = [each.entry for each in queue.consumer().claim(9_000)]
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
    queue.expire("w1")
    assert consumer.settle([], 1).lease_lives is False
    assert payloads(queue.pending()) == ["a"]
    consumer.renew()
    assert payloads(consumer.claim()) == ["a"]


def wait_for(consumer: Consumer, timeout_ms: int) -> list[Claimed]:
    return consumer.claim_waiting(consumer.reserve(1), timeout_ms).claimed


def test_a_waiting_claim_takes_the_oldest_task_at_once(queue: Queue) -> None:
    queue.enqueue("a", "b")
    (claimed,) = wait_for(queue.consumer(), 5_000)
    assert payloads([claimed]) == ["a"]
    assert queue.held() == [claimed.entry]


def test_a_waiting_claim_takes_a_task_when_it_comes(queue: Queue) -> None:
    consumer = queue.consumer()
    with ThreadPoolExecutor(1) as threads:
        claimed = threads.submit(wait_for, consumer, 60_000)
        wait_until(lambda: queue.client.info("clients")["blocked_clients"] == 1, message="nobody waits")
        queue.enqueue("a", "b")
        assert payloads(claimed.result(timeout=10)) == ["a"]
    assert queue.rings(), "b waits"


def test_a_waiting_claim_yields_nothing_when_its_time_is_over(queue: Queue) -> None:
    assert wait_for(queue.consumer(), 10) == []


def test_a_task_that_was_pushed_without_a_ring_is_claimed_when_the_time_is_over(queue: Queue) -> None:
    queue.push(b'{"id":"t1","payload":"a"}', b'{"id":"t2","payload":"b"}')
    assert payloads(wait_for(queue.consumer(), 10)) == ["a"]
    assert queue.rings(), "the claim has healed the bell"


def test_claimed_one_by_one_or_waiting_the_oldest_is_the_first_of_what_is_held(queue: Queue) -> None:
    queue.enqueue("a", "b", "c")
    consumer = queue.consumer()
    consumer.claim()
    wait_for(consumer, 1_000)
    consumer.claim()
    assert payloads(consumer.read(consumer.held())) == ["a", "b", "c"]


def test_a_wait_whose_bell_is_of_another_type_claims_and_waits_its_time_for_nothing(queue: Queue) -> None:
    consumer = queue.consumer()
    queue.client.set(queue.keys.bell, "another user's")
    queue.push(entry("t1"))
    assert ids(wait_for(consumer, 60_000)) == ["t1"]
    before_s = time.monotonic()
    assert wait_for(consumer, 300) == []
    assert time.monotonic() - before_s >= 0.3
    assert queue.client.get(queue.keys.bell) == b"another user's"


@pytest.mark.law("I3")
def test_a_claim_that_the_network_repeats_claims_nothing_again(queue: Queue) -> None:
    """Otherwise its tasks would overwrite the tasks of the first claim, which would be lost."""
    accepted = queue.enqueue("a", "b", "c", "d")
    first, second = queue.consumer(), Consumer(queue.own_client, queue.config, "w1")
    assert ids(first.claim(2)) == accepted[:2]
    assert second.settle([], 2).claimed == []
    assert ids(queue.held()) == accepted[:2]
    assert ids(first.claim(2)) == accepted[2:]


def test_the_numbers_of_a_consumer_only_grow(queue: Queue) -> None:
    queue.enqueue(*range(5))
    consumer = queue.consumer()
    numbers = [each.number for limit in (1, 2, 1, 1) for each in consumer.claim(limit)]
    assert numbers == sorted(set(numbers))
    assert int(queue.client.hget(queue.keys.numbers, "w1")) == numbers[-1]


def test_a_bare_object_that_a_foreign_client_pushed_gets_its_header(queue: Queue) -> None:
    pushed = b' {"id":"t1","type":"email","payload":1.10,"trace":{"a":1E2}}'
    queue.client.lpush(queue.keys.pending_low, pushed)
    before_s, _ = queue.client.time()
    task = queue.claim(queue.consumer())
    assert body(task.entry) == pushed
    assert (task.id, task.type, task.priority, task.attempt) == ("t1", "email", "low", 1)
    assert before_s * 1000 <= task.enqueued_at <= before_s * 1000 + 60_000


def test_a_consumer_of_another_process_claims_nothing(queue: Queue) -> None:
    consumer = queue.consumer()
    child = os.fork()
    if not child:
        try:
            consumer.claim()
        except QueueError as error:
            os._exit(7 if "belongs to another process" in str(error) else 1)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.law("I1")
@pytest.mark.parametrize("command", ["EVALSHA", "BLPOP"])
def test_a_task_whose_claim_got_no_reply_is_in_the_claimer_s_own_hands(queue: Queue, command: str) -> None:
    queue.consumer().claim()  # loads the script
    queue.enqueue("a", "b")
    with Relay(queue.config.redis_url) as relay:
        relayed = queue.configured(redis_url=relay.url)
        consumer = relayed.consumer("w2")
        relay.swallow(command)
        with pytest.raises(RedisConnectionError):
            consumer.claim() if command == "EVALSHA" else wait_for(consumer, 1_000)
        assert relay.swallowed == 1
        assert payloads(consumer.read(consumer.held())) == ["a"]
        assert payloads(consumer.claim()) == ["b"]
    assert [read(each).attempt for each in queue.held("w2")] == [1, 1]


def test_scripts_that_the_server_forgot_are_sent_again_without_notice(queue: Queue) -> None:
    queue.enqueue("a", "b")
    consumer = queue.consumer()
    consumer.claim()
    queue.client.script_flush()
    assert payloads(consumer.claim()) == ["b"]
