"""Several requests in one call: each is accepted or refused independently."""

from typing import Any

import pytest
from support.processes.relay import Relay
from support.queue_fixtures import Queue, ids, payloads
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission
from zeroloss.reference.queue.errors import (
    IdempotencyConflict,
    NotAccepted,
    NotConfirmed,
    OutcomeUnknown,
    QueueFull,
    TaskTooLarge,
)


def one(payload_json: str, **members: Any) -> list[Submission]:
    return [Submission(payload_json, **members)]


@pytest.mark.law("I1")
def test_the_request_that_does_not_fit_is_refused_alone(queue: Queue) -> None:
    bounded = queue.configured(max_pending=3)
    two = [Submission('"b"'), Submission('"c"')]
    first, refused, third, last = bounded.enqueuer.enqueue_requests([one('"a"'), [*two, *two], two, one('"d"')])
    assert isinstance(first, list)
    assert isinstance(third, list)
    assert isinstance(refused, QueueFull)
    assert isinstance(last, QueueFull)
    assert (refused.length, last.length, last.limit) == (1, 3, 3)
    assert payloads(queue.pending()) == ["a", "b", "c"]
    assert queue.counters() == {"enqueued": 3}


@pytest.mark.law("I8")
def test_the_key_of_a_refused_request_stays_unknown_to_the_next_one_of_the_call(queue: Queue) -> None:
    bounded = queue.configured(max_pending=1)
    large = [Submission("1", idempotency_key="k"), Submission("2")]
    refused, accepted, again, other = bounded.enqueuer.enqueue_requests(
        [large, one("1", idempotency_key="k"), one("1", idempotency_key="k"), one("2", idempotency_key="k")]
    )
    assert isinstance(refused, QueueFull)
    assert isinstance(accepted, list)
    assert isinstance(accepted[0], Accepted)
    assert again == [Accepted(accepted[0].task_id, replayed=True)]
    assert isinstance(other, list)
    assert isinstance(other[0], IdempotencyConflict)
    assert ids(queue.pending()) == [accepted[0].task_id]


def test_scheduled_tasks_that_do_not_fit_are_refused_alone(queue: Queue) -> None:
    bounded = queue.configured(max_scheduled=1)
    first, second, third = bounded.enqueuer.enqueue_requests([one("1", due="+60000"), one("2", due="+60000"), one("3")])
    assert isinstance(first, list)
    assert isinstance(third, list)
    assert isinstance(second, QueueFull)
    assert (second.length, "scheduled" in str(second)) == (1, True)
    assert payloads(queue.delayed()) == [1]


def test_the_requests_of_a_call_that_was_refused_entirely_write_nothing(queue: Queue) -> None:
    bounded = queue.configured(max_pending=1)
    bounded.enqueue("a")
    before = queue.everything()
    outcomes = bounded.enqueuer.enqueue_requests([one("1", idempotency_key="k"), one("2")])
    assert [type(outcome) for outcome in outcomes] == [QueueFull, QueueFull]
    assert queue.everything() == before


def test_a_task_that_is_too_large_is_its_own_request_s_answer(queue: Queue) -> None:
    limited = queue.configured(max_task_bytes=200)
    large, small = limited.enqueuer.enqueue_requests([one('"%s"' % ("x" * 300)), one("1")])
    assert isinstance(large, list)
    assert isinstance(large[0], TaskTooLarge)
    assert isinstance(small, list)
    assert ids(queue.pending()) == [small[0].task_id]  # type: ignore[union-attr]


def test_an_unconfirmed_call_leaves_the_definite_answers_as_they_are(queue: Queue) -> None:
    unconfirmed = queue.configured(durability="replicas:1", durability_timeout_ms=50, max_pending=1)
    accepted, refused = unconfirmed.enqueuer.enqueue_requests([one("1"), one("2")])
    assert isinstance(accepted, NotConfirmed)
    assert isinstance(refused, QueueFull)


def test_an_unreachable_server_accepted_no_request_of_the_call(queue: Queue, dead_port: int) -> None:
    lost = queue.configured(redis_url=f"redis://127.0.0.1:{dead_port}/0")
    with pytest.raises(NotAccepted):
        lost.enqueuer.enqueue_requests([one("1"), one("2")])


def test_a_lost_reply_leaves_every_request_of_the_call_unknown(queue: Queue) -> None:
    queue.enqueue("to load the script")
    with Relay(queue.config.redis_url) as relay:
        relayed = queue.configured(redis_url=relay.url)
        relayed.enqueue("to know the protocol")
        relay.swallow("EVALSHA")
        with pytest.raises(OutcomeUnknown):
            relayed.enqueuer.enqueue_requests([one("1"), one("2")])
        assert relay.swallowed == 1
    assert payloads(queue.pending())[2:] == [1, 2]
