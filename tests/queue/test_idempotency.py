"""Idempotent enqueue (I8): the same key and payload give one task and the same id; another payload is an error."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from support.queue_fixtures import Queue, ids, payloads
from zeroloss.invariants import Answer, idempotent_enqueue
from zeroloss.reference.queue.enqueuing.submission import DELAY_MS_MAX, Accepted, Submission
from zeroloss.reference.queue.errors import IdempotencyConflict, QueueFull


@pytest.fixture(scope="module")
def threads() -> Iterator[ThreadPoolExecutor]:
    """A pool with a thread for each concurrent request."""
    with ThreadPoolExecutor(12) as made:
        yield made


def keyed(payload_json: str, key: str = "k", **members: str) -> Submission:
    return Submission(payload_json=payload_json, idempotency_key=key, **members)


@pytest.mark.law("I8")
def test_the_same_key_and_payload_give_one_task_and_the_same_id(queue: Queue) -> None:
    first, again = (queue.enqueuer.enqueue(keyed('{"a":1}')) for _ in range(2))
    assert (first.replayed, again.replayed) == (False, True)
    assert ids(queue.pending()) == [first.task_id] == [again.task_id]
    assert queue.counters() == {"enqueued": 1}


@pytest.mark.law("I8")
def test_without_a_key_the_same_payload_is_two_tasks(queue: Queue) -> None:
    queue.enqueue_text('{"a":1}')
    queue.enqueue_text('{"a":1}')
    assert len(queue.pending()) == 2


def test_another_key_is_another_task(queue: Queue) -> None:
    queue.enqueuer.enqueue(keyed("1", key="k1"))
    assert not queue.enqueuer.enqueue(keyed("1", key="k2")).replayed


@pytest.mark.law("I8")
@pytest.mark.parametrize(
    "same",
    [
        '{"a":1,"b":[2.50,null]}',
        '{"b":[2.50,null],"a":1}',
        '{ "a": 1,\n"b": [2.50, null] }',
        '{"\\u0061":1,"b":[2.50,null]}',
    ],
)
def test_white_space_spelling_and_the_order_of_names_make_no_other_payload(queue: Queue, same: str) -> None:
    first = queue.enqueuer.enqueue(keyed('{"a":1,"b":[2.50,null]}'))
    assert queue.enqueuer.enqueue(keyed(same)) == Accepted(first.task_id, replayed=True)


@pytest.mark.law("I8")
@pytest.mark.parametrize(
    ("first", "other"),
    [
        ("1", "2"),
        ("1", '"1"'),
        ("1", "true"),
        ("[1,2]", "[2,1]"),
        ("null", "0"),
        ("0.1", "0.10000000000000000001"),
        ("1e400", "1e500"),
        ("1.5", '"1.5"'),
        ("12345678901234567890123", "12345678901234567890124"),
    ],
)
def test_another_payload_under_the_same_key_is_a_conflict_and_changes_nothing(
    queue: Queue, first: str, other: str
) -> None:
    queue.enqueuer.enqueue(keyed(first))
    before = queue.everything()
    with pytest.raises(IdempotencyConflict, match="'k' was already used"):
        queue.enqueuer.enqueue(keyed(other))
    assert queue.everything() == before


@pytest.mark.law("I8")
def test_another_type_or_a_chosen_id_under_the_same_key_is_a_conflict(queue: Queue) -> None:
    queue.enqueuer.enqueue(keyed("1"))
    for other in (keyed("1", task_type="email"), keyed("1", task_id="mine")):
        with pytest.raises(IdempotencyConflict):
            queue.enqueuer.enqueue(other)


@pytest.mark.law("I8")
def test_within_one_batch_a_key_is_used_once(queue: Queue) -> None:
    first, again, conflict, plain = queue.enqueuer.enqueue_many(
        [keyed("1"), keyed("1"), keyed("2"), Submission(payload_json="3")]
    )
    assert again == Accepted(first.task_id, replayed=True)
    assert isinstance(conflict, IdempotencyConflict)
    assert plain.replayed is False
    assert payloads(queue.pending()) == [1, 3]


def test_a_batch_with_known_and_new_keys_adds_only_the_new(queue: Queue) -> None:
    known = queue.enqueuer.enqueue(keyed("1", key="old"))
    replay, new = queue.enqueuer.enqueue_many([keyed("1", key="old"), keyed("2", key="new")])
    assert replay == Accepted(known.task_id, replayed=True)
    assert ids(queue.pending()) == [known.task_id, new.task_id]
    assert queue.counters() == {"enqueued": 2}


def test_a_conflict_in_a_batch_does_not_refuse_the_others(queue: Queue) -> None:
    queue.enqueuer.enqueue(keyed("1"))
    conflict, accepted = queue.enqueuer.enqueue_many([keyed("2"), keyed("3", key="other")])
    assert isinstance(conflict, IdempotencyConflict)
    assert ids(queue.pending())[1:] == [accepted.task_id]


def test_a_thousand_keys_in_one_batch_replay_as_one_batch(queue: Queue) -> None:
    batch = [keyed(str(number), key=f"batch:{number}") for number in range(1_000)]
    first, again = queue.enqueuer.enqueue_many(batch), queue.enqueuer.enqueue_many(batch)
    assert [answer.task_id for answer in first] == [answer.task_id for answer in again] == ids(queue.pending())
    assert all(answer.replayed for answer in again)


@pytest.mark.law("I8")
def test_a_key_is_remembered_for_its_time_and_no_longer(queue: Queue) -> None:
    remembering = queue.configured(idempotency_ttl_ms=60_000)
    remembering.enqueuer.enqueue(keyed("1"))
    key = queue.keys.idempotency("k")
    assert 50_000 < queue.client.pttl(key) <= 60_000
    queue.client.pexpire(key, 0)
    assert not remembering.enqueuer.enqueue(keyed("2")).replayed


def test_the_longest_time_of_a_key_is_one_that_redis_takes(queue: Queue) -> None:
    assert not queue.configured(idempotency_ttl_ms=DELAY_MS_MAX).enqueuer.enqueue(keyed("1")).replayed
    assert queue.client.pttl(queue.keys.idempotency("k")) > DELAY_MS_MAX - 60_000


def test_a_replay_does_not_lengthen_the_time_of_its_key(queue: Queue) -> None:
    queue.enqueuer.enqueue(keyed("1"))
    key = queue.keys.idempotency("k")
    queue.client.pexpire(key, 30_000)
    queue.enqueuer.enqueue(keyed("1"))
    assert queue.client.pttl(key) <= 30_000


@pytest.mark.law("I8")
def test_a_replay_is_answered_even_when_the_task_is_long_done(queue: Queue) -> None:
    first = queue.enqueuer.enqueue(keyed("1"))
    consumer = queue.consumer()
    consumer.ack(queue.claim(consumer))
    assert queue.enqueuer.enqueue(keyed("1")) == Accepted(first.task_id, replayed=True)
    assert queue.pending() == []


@pytest.mark.law("I8")
def test_a_replay_is_answered_even_when_the_queue_is_full(queue: Queue) -> None:
    bounded = queue.configured(max_pending=1)
    first = bounded.enqueuer.enqueue(keyed("1"))
    assert bounded.enqueuer.enqueue(keyed("1")).task_id == first.task_id
    with pytest.raises(IdempotencyConflict):
        bounded.enqueuer.enqueue(keyed("2"))
    with pytest.raises(QueueFull):
        bounded.enqueuer.enqueue(keyed("1", key="new"))


@pytest.mark.law("I8")
def test_a_key_that_was_refused_because_the_queue_was_full_is_not_used_up(queue: Queue) -> None:
    bounded = queue.configured(max_pending=1)
    bounded.enqueue("in the way")
    with pytest.raises(QueueFull):
        bounded.enqueuer.enqueue(keyed("1"))
    consumer = bounded.consumer()
    consumer.ack(bounded.claim(consumer))
    assert not bounded.enqueuer.enqueue(keyed("1")).replayed


@pytest.mark.parametrize("key", ["with spaces and: colons", "0", "ключ", "a" * 256, "{tag}"])
def test_any_text_serves_as_a_key(queue: Queue, key: str) -> None:
    first, again = (queue.enqueuer.enqueue(keyed("1", key=key)) for _ in range(2))
    assert again == Accepted(first.task_id, replayed=True)


@pytest.mark.law("I8")
def test_requests_at_the_same_moment_under_one_key_are_one_task(queue: Queue, threads: ThreadPoolExecutor) -> None:
    queue.enqueue_text("0")  # loads the script, so that the threads meet in it
    accepted = list(threads.map(lambda _: queue.enqueuer.enqueue(keyed("1")), range(40)))
    assert sum(not answer.replayed for answer in accepted) == 1
    assert idempotent_enqueue([Answer("k", "1", answer.task_id) for answer in accepted]) == []
    assert len(queue.pending()) == 2


REQUESTS = st.lists(
    st.tuples(st.sampled_from(["k1", "k2", "k3"]), st.sampled_from(["1", "2"])), min_size=2, max_size=12
)


@pytest.mark.law("I8")
@given(requests=REQUESTS)
def test_any_requests_at_the_same_moment_give_each_key_one_payload_and_one_task(
    server: Any, client: redis.Redis, threads: ThreadPoolExecutor, requests: list[tuple[str, str]]
) -> None:
    client.flushall()
    queue = Queue(client, server.url)
    meet = threading.Barrier(len(requests))

    def ask(request: tuple[str, str]) -> Answer:
        key, payload = request
        meet.wait(30)
        try:
            return Answer(key, payload, queue.enqueuer.enqueue(keyed(payload, key=key)).task_id)
        except IdempotencyConflict:
            return Answer(key, payload, None)

    answers = list(threads.map(ask, requests))
    queue.own_client.close()
    assert idempotent_enqueue(answers) == []
    given_ids = {answer.task for answer in answers if answer.task}
    assert len(given_ids) == len({key for key, _ in requests})  # each key was used
    assert sorted(ids(queue.pending())) == sorted(given_ids)


def test_a_chosen_id_is_never_taken_for_an_answer_of_the_script(queue: Queue) -> None:
    asked = Submission(payload_json="1", task_id="!", idempotency_key="k")
    assert queue.enqueuer.enqueue(asked) == Accepted("!", replayed=False)
    assert queue.enqueuer.enqueue(asked) == Accepted("!", replayed=True)
