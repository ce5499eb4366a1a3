"""With full memory and `noeviction`, adding is refused; moving and removing still work, so the queue can drain."""

import pytest
from support.queue_fixtures import Queue, memory_full, payloads, read
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.errors import NotAccepted


@pytest.mark.law("I6")
def test_an_enqueue_is_refused_for_certain(queue: Queue) -> None:
    queue.enqueue("a")
    before = queue.everything()
    with memory_full(queue), pytest.raises(NotAccepted, match="maxmemory"):
        queue.enqueuer.enqueue_many([Submission(payload_json="1", idempotency_key="k"), Submission(payload_json="2")])
    assert queue.everything() == before


def test_an_enqueue_is_accepted_again_when_there_is_memory_again(queue: Queue) -> None:
    with memory_full(queue), pytest.raises(NotAccepted):
        queue.enqueue("a")
    queue.enqueue("a")
    assert payloads(queue.pending()) == ["a"]


def test_claiming_and_acking_go_on(queue: Queue) -> None:
    queue.enqueue("a", "b")
    consumer = queue.consumer()
    with memory_full(queue):
        (done,) = consumer.claim()
        (claimed,) = consumer.settle([done.number], 1).claimed
        assert payloads([claimed]) == ["b"]
        consumer.ack(read(claimed))
    assert queue.counters()["completed"] == 2


def test_beginning_renewing_and_leaving_go_on(queue: Queue) -> None:
    with memory_full(queue):
        consumer = queue.consumer("new")
        assert consumer.renew().lapsed is False
        assert consumer.leave().left


def test_failing_giving_up_and_releasing_go_on(queue: Queue) -> None:
    queue.enqueue("fails", "dies", "returns")
    consumer = queue.consumer()
    fails, dies, returns = consumer.claim(3)
    with memory_full(queue):
        consumer.fail(read(fails), "no")
        consumer.dead_letter(dies, "no")
        consumer.release([returns.number])
    assert [payloads(place) for place in (queue.delayed(), queue.dead(), queue.pending())] == [
        ["fails"],
        ["dies"],
        ["returns"],
    ]


@pytest.mark.law("I4")
def test_recovering_adopting_and_promoting_go_on(queue: Queue) -> None:
    queue.enqueue("retry", "held", "orphan")
    consumer, other = queue.consumer("w1"), queue.consumer("w2")
    consumer.fail(queue.claim(consumer), "no")
    consumer.claim()
    other.claim()
    queue.client.zrem(queue.keys.consumers, "w2")
    queue.make_due()
    with memory_full(queue):
        assert queue.reaper.adopt() == 1
        assert queue.kill(consumer) == 1
        assert queue.kill(other) == 1
        assert queue.reaper.promote() == 1
    assert sorted(payloads(queue.pending())) == ["held", "orphan", "retry"]


def test_requeueing_goes_on(queue: Queue) -> None:
    queue.dead_lettered("a")
    (letter,) = queue.dead_letters.page()
    with memory_full(queue):
        assert queue.dead_letters.requeue(letter.id) == 1
    assert payloads(queue.pending()) == ["a"]


def test_draining_goes_on_even_when_the_server_forgot_the_scripts(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    with memory_full(queue):
        queue.client.script_flush()
        consumer.ack(queue.claim(consumer))
    assert queue.counters()["completed"] == 1


def test_a_waiting_claim_goes_on(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    with memory_full(queue):
        assert payloads(consumer.claim_waiting(consumer.reserve(1), 10).claimed) == ["a"]
