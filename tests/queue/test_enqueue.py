"""Enqueue: a task is promised when Redis has acknowledged it, in one atomic step, or it is said why not."""

import json
import select
import time
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from support.awkward import AWKWARD_IDS, AWKWARD_PAYLOADS
from support.processes.relay import Relay
from support.queue_fixtures import Queue, ids, payloads
from support.waiting import wait_until
from zeroloss.reference.queue.connection import NeverSent, connect
from zeroloss.reference.queue.enqueuer import Accepted, Enqueuer, Submission
from zeroloss.reference.queue.errors import IdempotencyConflict, NotAccepted, OutcomeUnknown, QueueFull, TaskTooLarge
from zeroloss.reference.queue.task import decode, raw_members


def submission(payload: object = None, **members: str) -> Submission:
    return Submission(payload_json=json.dumps(payload), **members)


def test_an_accepted_task_is_pending_and_counted(queue: Queue) -> None:
    accepted = queue.enqueuer.enqueue(submission({"to": "me"}, task_type="email"))
    (element,) = queue.pending()
    task = decode(element)
    assert accepted == Accepted(task.id, replayed=False)
    assert (task.type, task.payload, task.attempt) == ("email", {"to": "me"}, 1)
    assert queue.counters() == {"enqueued": 1}


def test_a_task_says_when_it_was_accepted_by_the_producer_s_clock_in_ms(queue: Queue) -> None:
    before_ms = time.time() * 1000
    queue.enqueue("a")
    assert before_ms - 1 <= decode(queue.pending()[0]).created_at <= time.time() * 1000


@pytest.mark.law("I1")
def test_an_accepted_task_is_in_one_key_only(queue: Queue) -> None:
    queue.enqueue("a")
    assert sorted(queue.everything()) == ["tasks:counters", "tasks:pending"]


def test_an_id_that_the_submitter_chose_is_kept(queue: Queue) -> None:
    assert queue.enqueuer.enqueue(submission(task_id="mine")).task_id == "mine"
    assert ids(queue.pending()) == ["mine"]


def test_a_generated_id_is_a_string_that_sorts_by_time(queue: Queue) -> None:
    made = queue.enqueue(*range(50))
    assert made == sorted(made) == ids(queue.pending())


@pytest.mark.law("I7")
def test_tasks_wait_in_the_order_they_were_accepted(queue: Queue) -> None:
    queue.enqueue("a", "b")
    queue.enqueuer.enqueue_many([submission("c"), submission("d")])
    assert payloads(queue.pending()) == ["a", "b", "c", "d"]


@pytest.mark.law("I6")
@pytest.mark.parametrize("payload_json", AWKWARD_PAYLOADS, ids=AWKWARD_IDS)
def test_a_payload_arrives_byte_for_byte(queue: Queue, payload_json: str) -> None:
    queue.enqueue_text(payload_json)
    (element,) = queue.consumer().claim()
    assert b'"payload":' + payload_json.encode() + b',"created_at":' in element


def test_a_task_at_the_limit_is_accepted_and_one_byte_more_is_too_large(queue: Queue) -> None:
    queue.enqueue("x" * 100)
    size = len(queue.pending()[0])
    limited = queue.configured(max_task_bytes=size)
    limited.enqueue("x" * 100)
    with pytest.raises(TaskTooLarge, match=f"has {size + 1} bytes; at most {size}"):
        limited.enqueue("x" * 101)
    assert len(queue.pending()) == 2


def test_the_size_of_a_task_is_counted_in_bytes_not_characters(queue: Queue) -> None:
    queue.enqueue_text('"' + "e" * 100 + '"')
    limited = queue.configured(max_task_bytes=len(queue.pending()[0]))
    with pytest.raises(TaskTooLarge):
        limited.enqueue_text('"' + "é" * 100 + '"')


def test_in_a_batch_what_is_too_large_is_refused_alone_and_the_answers_keep_their_order(queue: Queue) -> None:
    limited = queue.configured(max_task_bytes=200)
    first, second, third = limited.enqueuer.enqueue_many([submission("a"), submission("x" * 200), submission("c")])
    assert isinstance(second, TaskTooLarge)
    assert ids(queue.pending()) == [first.task_id, third.task_id]
    assert payloads(queue.pending()) == ["a", "c"]


def test_an_empty_batch_is_no_round_trip_and_no_error(queue: Queue, dead_port: int) -> None:
    assert queue.configured(redis_url=f"redis://127.0.0.1:{dead_port}/0").enqueuer.enqueue_many([]) == []


@pytest.mark.law("I7")
def test_a_batch_longer_than_lua_s_stack_is_accepted_in_order(queue: Queue) -> None:
    queue.enqueuer.enqueue_many([submission(number) for number in range(10_000)])
    assert payloads(queue.pending()) == list(range(10_000))
    assert queue.counters() == {"enqueued": 10_000}


def test_the_bound_of_the_queue_is_the_last_place_that_is_given(queue: Queue) -> None:
    bounded = queue.configured(max_pending=2)
    bounded.enqueue("a", "b")
    with pytest.raises(QueueFull) as caught:
        bounded.enqueue("c")
    assert (caught.value.length, caught.value.limit) == (2, 2)
    assert payloads(queue.pending()) == ["a", "b"]


@pytest.mark.law("I1")
def test_a_batch_that_does_not_fit_whole_is_refused_whole(queue: Queue) -> None:
    bounded = queue.configured(max_pending=3)
    bounded.enqueue("a", "b")
    before = queue.everything()
    with pytest.raises(QueueFull):
        bounded.enqueuer.enqueue_many([submission("c", idempotency_key="k"), submission("d")])
    assert queue.everything() == before


def test_a_batch_that_fits_exactly_is_accepted(queue: Queue) -> None:
    bounded = queue.configured(max_pending=3)
    bounded.enqueue("a")
    bounded.enqueuer.enqueue_many([submission("b"), submission("c")])
    assert payloads(queue.pending()) == ["a", "b", "c"]


def test_the_bound_counts_what_waits_and_not_what_is_being_done(queue: Queue) -> None:
    bounded = queue.configured(max_pending=1)
    bounded.enqueue("a")
    bounded.consumer().claim()
    bounded.enqueue("b")
    assert payloads(queue.pending()) == ["b"]


@pytest.mark.law("I6")
def test_without_a_server_nothing_is_accepted_and_that_is_certain(queue: Queue, dead_port: int) -> None:
    unreachable = queue.configured(redis_url=f"redis://127.0.0.1:{dead_port}/0")
    with pytest.raises(NotAccepted, match=r"^Nothing was accepted: Redis cannot be reached"):
        unreachable.enqueue("a")
    with pytest.raises(NeverSent):
        unreachable.consumer()


@pytest.mark.law("I2")
def test_a_definite_no_of_redis_is_not_accepted(queue: Queue) -> None:
    queue.client.set(queue.keys.pending, "not a list")
    with pytest.raises(NotAccepted, match="Redis refused"):
        queue.enqueue("a")


def test_a_connection_that_died_while_idle_costs_nothing(queue: Queue) -> None:
    queue.enqueue("a")
    queue.client.client_kill_filter(_type="normal", skipme=True)
    # Through a container's port the end arrives a little later; sent before that, the outcome is unknown.
    idle = [connection._sock for connection in queue.own_client.connection_pool._connections if connection._sock]
    assert idle
    wait_until(lambda: len(select.select(idle, [], [], 0)[0]) == len(idle), message="the end has not arrived")
    queue.enqueue("b")
    assert payloads(queue.pending()) == ["a", "b"]


def test_scripts_that_the_server_forgot_are_sent_again_without_notice(queue: Queue) -> None:
    queue.enqueue("a")
    queue.client.script_flush()
    queue.enqueue("b")
    assert payloads(queue.pending()) == ["a", "b"]


@pytest.mark.law("I2")
def test_a_lost_reply_leaves_the_outcome_unknown_and_the_command_is_not_repeated(queue: Queue) -> None:
    queue.enqueue("to load the script")
    with Relay(queue.config.redis_url) as relay:
        relayed = queue.configured(redis_url=relay.url)
        relay.swallow("EVALSHA")
        with pytest.raises(OutcomeUnknown, match="may have been accepted: Redis did not answer"):
            relayed.enqueue("a")
        assert relay.swallowed == 1
    assert payloads(queue.pending()) == ["to load the script", "a"]


@pytest.mark.law("I8")
def test_after_a_lost_reply_the_same_idempotency_key_gives_the_id_of_the_one_task(queue: Queue) -> None:
    queue.enqueue("to load the script")
    with Relay(queue.config.redis_url) as relay:
        relayed = queue.configured(redis_url=relay.url)
        relay.swallow("EVALSHA")
        with pytest.raises(OutcomeUnknown):
            relayed.enqueuer.enqueue(submission("a", idempotency_key="k"))
        again = relayed.enqueuer.enqueue(submission("a", idempotency_key="k"))
    assert again.replayed
    assert ids(queue.pending())[1:] == [again.task_id]


def test_queues_in_other_namespaces_are_not_touched(queue: Queue) -> None:
    tagged = queue.configured(namespace="{tasks-0}")
    tagged.enqueue("a")
    assert sorted(queue.everything()) == ["{tasks-0}:counters", "{tasks-0}:pending"]
    assert queue.consumer().claim() == []
    assert payloads(tagged.consumer().claim()) == ["a"]


def test_with_a_hash_tag_all_keys_of_a_queue_share_one_slot_of_a_cluster(queue: Queue) -> None:
    from redis.crc import key_slot

    tagged = queue.configured(namespace="{tasks-0}")
    tagged.enqueuer.enqueue(submission("a", idempotency_key="k"))
    tagged.dead_lettered("b")
    tagged.enqueue("c", "d", "e")
    consumer = tagged.consumer()
    consumer.fail(tagged.claim(consumer), "no")
    tagged.claim(consumer)
    keys = list(tagged.everything())
    assert len(keys) == 7
    assert len({key_slot(key.encode()) for key in keys}) == 1


def test_an_enqueuer_is_shared_by_threads(queue: Queue) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as threads:
        accepted = list(threads.map(lambda number: queue.enqueue(number)[0], range(200)))
    assert sorted(ids(queue.pending())) == sorted(accepted)


def test_a_client_that_cannot_be_made_is_a_refused_setting_and_nothing_is_sent(queue: Queue) -> None:
    with pytest.raises(NotAccepted):
        wrong_password = queue.config.redis_url.replace("redis://", "redis://:wrong@")
        queue.client.config_set("requirepass", "right")
        try:
            Enqueuer(connect(queue.configured(redis_url=wrong_password).config), queue.config).enqueue(submission())
        finally:
            queue.client.config_set("requirepass", "")
    assert queue.pending() == []


SUBMISSIONS = st.lists(
    st.builds(
        Submission,
        payload_json=st.sampled_from(["1", "1.0", '"é"', '"\\u0000"', '"' + "x" * 300 + '"']),
        task_type=st.sampled_from(["default", "email"]),
        task_id=st.sampled_from(["chosen", "!", "="]) | st.none(),
        idempotency_key=st.sampled_from(["k1", "k2"]) | st.none(),
    ),
    max_size=8,
)


def outcome_of(queue: Queue, asked: Submission) -> object:
    try:
        return queue.enqueuer.enqueue(asked)
    except (TaskTooLarge, IdempotencyConflict) as refused:
        return refused


def without_generated_ids(asked: list[Submission], outcomes: list[Any]) -> list[object]:
    """Outcomes, where an id that was made stands as the number of the submission that it was made for."""
    made: dict[str, int] = {}
    said: list[object] = []
    for number, (submission, outcome) in enumerate(zip(asked, outcomes, strict=True)):
        if not isinstance(outcome, Accepted):
            said.append((type(outcome), str(outcome)))
        elif submission.task_id:
            said.append(outcome)
        else:
            said.append((made.setdefault(outcome.task_id, number), outcome.replayed))
    return said


@given(asked=SUBMISSIONS)
def test_a_batch_gives_what_its_submissions_give_one_by_one(
    server: Any, client: redis.Redis, asked: list[Submission]
) -> None:
    """The same answers, the same tasks in the same order, the same keys: all but the bound, where a batch is one."""
    results = []
    for together in (True, False):
        client.flushall()
        queue = Queue(client, server.url, max_task_bytes=300)
        outcomes = queue.enqueuer.enqueue_many(asked) if together else [outcome_of(queue, each) for each in asked]
        waiting = [decode(element) for element in queue.pending()]
        queue.own_client.close()
        results.append(
            (
                without_generated_ids(asked, outcomes),
                [(task.type, raw_members(task.element.decode())["payload"]) for task in waiting],
                queue.counters().get("enqueued", 0),
                sorted(key.decode() for key in client.scan_iter(match="tasks:idempotency:*")),
            )
        )
    assert results[0] == results[1]


def test_a_python_value_is_enqueued_under_its_type_and_what_is_no_json_is_refused(queue: Queue) -> None:
    accepted = queue.enqueuer.enqueue_payload({"a": [1.5, None]}, task_type="mail")
    (task,) = map(decode, queue.pending())
    assert (task.id, task.type, task.payload) == (accepted.task_id, "mail", {"a": [1.5, None]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        queue.enqueuer.enqueue_payload(float("nan"))
    assert len(queue.pending()) == 1
