"""Enqueue: a task is promised when Redis has acknowledged it, in one atomic step, or refused with the reason."""

import json
import select
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from support.awkward import AWKWARD_IDS, AWKWARD_PAYLOADS
from support.processes.relay import Relay
from support.queue_fixtures import Queue, body, ids, payloads, raw_payload, read
from support.waiting import wait_until
from zeroloss.reference.queue.connection import NeverSent, connect
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission
from zeroloss.reference.queue.errors import (
    IdempotencyConflict,
    NotAccepted,
    OtherProtocol,
    OutcomeUnknown,
    QueueFull,
    TaskTooLarge,
)


def submission(payload: object = None, **members: str) -> Submission:
    return Submission(payload_json=json.dumps(payload), **members)


def test_an_accepted_task_is_pending_and_counted(queue: Queue) -> None:
    accepted = queue.enqueuer.enqueue(submission({"to": "me"}, task_type="email"))
    (entry,) = queue.pending()
    task = read(entry)
    assert accepted == Accepted(task.id, replayed=False)
    assert (task.type, task.payload, task.attempt) == ("email", {"to": "me"}, 1)
    assert queue.counters() == {"enqueued": 1}


def test_a_task_says_when_it_was_enqueued_by_the_server_s_clock_in_ms(queue: Queue) -> None:
    before_s, _ = queue.client.time()
    queue.enqueue("a")
    assert before_s * 1000 <= read(queue.pending()[0]).enqueued_at <= (queue.client.time()[0] + 1) * 1000


@pytest.mark.law("I1")
def test_an_accepted_task_is_in_one_key_only_and_the_bell_rings(queue: Queue) -> None:
    queue.enqueue("a")
    assert sorted(queue.everything()) == ["tasks:bell", "tasks:counters", "tasks:pending", "tasks:protocol"]


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
    (claimed,) = queue.consumer().claim()
    assert raw_payload(claimed) == payload_json


def test_a_task_at_the_limit_is_accepted_and_one_byte_more_is_too_large(queue: Queue) -> None:
    queue.enqueue("x" * 100)
    size = len(body(queue.pending()[0]))
    limited = queue.configured(max_task_bytes=size)
    limited.enqueue("x" * 100)
    with pytest.raises(TaskTooLarge, match=f"has {size + 1} bytes; at most {size}"):
        limited.enqueue("x" * 101)
    assert len(queue.pending()) == 2


def test_the_size_of_a_task_is_counted_in_bytes_not_characters(queue: Queue) -> None:
    queue.enqueue_text('"' + "e" * 100 + '"')
    limited = queue.configured(max_task_bytes=len(body(queue.pending()[0])))
    with pytest.raises(TaskTooLarge):
        limited.enqueue_text('"' + "é" * 100 + '"')


def test_in_a_batch_what_is_too_large_is_refused_alone_and_the_answers_keep_their_order(queue: Queue) -> None:
    limited = queue.configured(max_task_bytes=200)
    first, second, third = limited.enqueuer.enqueue_many([submission("a"), submission("x" * 200), submission("c")])
    assert isinstance(second, TaskTooLarge)
    assert ids(queue.pending()) == [first.task_id, third.task_id]
    assert payloads(queue.pending()) == ["a", "c"]


def test_an_empty_batch_is_not_a_round_trip_and_no_error(queue: Queue, dead_port: int) -> None:
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
    # Through a container's port the close arrives a little later. A command sent before has an unknown outcome.
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
        relayed.enqueue("to know the protocol")
        relay.swallow("EVALSHA")
        with pytest.raises(OutcomeUnknown, match="may have been accepted: Redis did not answer"):
            relayed.enqueue("a")
        assert relay.swallowed == 1
    assert payloads(queue.pending())[2:] == ["a"]


@pytest.mark.law("I8")
def test_after_a_lost_reply_the_same_idempotency_key_gives_the_id_of_the_one_task(queue: Queue) -> None:
    queue.enqueue("to load the script")
    with Relay(queue.config.redis_url) as relay:
        relayed = queue.configured(redis_url=relay.url)
        relayed.enqueue("to know the protocol")
        relay.swallow("EVALSHA")
        with pytest.raises(OutcomeUnknown):
            relayed.enqueuer.enqueue(submission("a", idempotency_key="k"))
        again = relayed.enqueuer.enqueue(submission("a", idempotency_key="k"))
    assert again.replayed
    assert ids(queue.pending())[2:] == [again.task_id]


def test_queues_in_other_namespaces_are_not_touched(queue: Queue) -> None:
    tagged = queue.configured(namespace="{tasks-0}")
    tagged.enqueue("a")
    assert {key.partition(":")[0] for key in queue.everything()} == {"{tasks-0}"}
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
    assert len(keys) == 10
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
        priority=st.sampled_from(["default", "high"]),
        due=st.sampled_from(["-", "99999999999999"]),
        trace_context=st.just(""),
    ),
    max_size=8,
)


def outcome_of(queue: Queue, asked: Submission) -> object:
    try:
        return queue.enqueuer.enqueue(asked)
    except (TaskTooLarge, IdempotencyConflict) as refused:
        return refused


def without_generated_ids(asked: list[Submission], outcomes: list[Any]) -> list[object]:
    """Return the outcomes with each generated id replaced by the number of its submission."""
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
    """The same answers, tasks, order and keys. Only the bound differs: it applies to a batch as a whole."""
    results = []
    for together in (True, False):
        client.flushall()
        queue = Queue(client, server.url, max_task_bytes=300)
        outcomes = queue.enqueuer.enqueue_many(asked) if together else [outcome_of(queue, each) for each in asked]
        places = (queue.pending("high"), queue.pending(), queue.delayed())
        waiting = [[read(each) for each in place] for place in places]
        queue.own_client.close()
        results.append(
            (
                without_generated_ids(asked, outcomes),
                [[(task.type, bytes(task.raw_payload)) for task in place] for place in waiting[:2]],
                sorted((task.type, bytes(task.raw_payload)) for task in waiting[2]),
                queue.counters().get("enqueued", 0),
                sorted(key.decode() for key in client.scan_iter(match="tasks:idempotency:*")),
            )
        )
    assert results[0] == results[1]


def test_a_python_value_is_enqueued_under_its_type_and_what_is_not_json_is_refused(queue: Queue) -> None:
    accepted = queue.enqueuer.enqueue_payload({"a": [1.5, None]}, task_type="mail")
    (task,) = map(read, queue.pending())
    assert (task.id, task.type, task.payload) == (accepted.task_id, "mail", {"a": [1.5, None]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        queue.enqueuer.enqueue_payload(float("nan"))
    assert len(queue.pending()) == 1


def prioritized(*priorities: str) -> list[Submission]:
    return [submission(number, priority=priority) for number, priority in enumerate(priorities)]


def test_a_task_waits_in_the_list_of_its_priority(queue: Queue) -> None:
    queue.enqueuer.enqueue_many(prioritized("low", "default", "high", "low"))
    assert [payloads(queue.pending(name)) for name in ("high", "default", "low")] == [[2], [1], [0, 3]]
    assert [read(each).priority for each in queue.pending("low")] == ["low", "low"]


def test_the_bound_of_the_queue_counts_all_priorities(queue: Queue) -> None:
    bounded = queue.configured(max_pending=3)
    bounded.enqueuer.enqueue_many(prioritized("low", "default", "high"))
    with pytest.raises(QueueFull) as caught:
        bounded.enqueuer.enqueue_many(prioritized("high"))
    assert (caught.value.length, caught.value.limit) == (3, 3)


@pytest.mark.parametrize("due", ["+60000", "99999999999999"])
def test_a_scheduled_task_waits_in_delayed_until_it_is_due(queue: Queue, due: str) -> None:
    seconds, microseconds = queue.client.time()
    queue.enqueuer.enqueue(submission("a", due=due))
    assert queue.pending() == []
    assert not queue.rings()
    ((entry, due_ms),) = queue.client.zrange(queue.keys.delayed, 0, -1, withscores=True)
    assert payloads([entry]) == ["a"]
    now_ms = seconds * 1000 + microseconds // 1000
    assert due_ms == float(due) if due.isdigit() else now_ms + 60_000 <= due_ms <= now_ms + 70_000
    assert queue.counters() == {"enqueued": 1}


@pytest.mark.parametrize("due", ["+0", "0", "1700000000000"])
def test_a_task_whose_time_has_come_waits_in_the_queue(queue: Queue, due: str) -> None:
    queue.enqueuer.enqueue(submission("a", due=due))
    assert payloads(queue.pending()) == ["a"]
    assert queue.rings()


def test_scheduled_tasks_have_a_bound_of_their_own(queue: Queue) -> None:
    bounded = queue.configured(max_pending=1, max_scheduled=2)
    bounded.enqueuer.enqueue_many([submission("a", due="+60000"), submission("b", due="+60000")])
    with pytest.raises(QueueFull, match="holds 2 scheduled tasks; its bound is 2") as caught:
        bounded.enqueuer.enqueue_many([submission("c"), submission("d", due="+1000")])
    assert (caught.value.length, caught.value.limit) == (2, 2)
    assert queue.pending() == []
    bounded.enqueue("c")


@pytest.mark.law("I1")
def test_scheduled_tasks_of_the_same_bytes_are_as_many_as_were_accepted(queue: Queue) -> None:
    queue.enqueuer.enqueue_many([submission("a", task_id="t1", due="+60000")] * 3)
    assert ids(queue.delayed()) == ["t1"] * 3


@pytest.mark.law("I8")
@pytest.mark.parametrize("other", [{"priority": "high"}, {"due": "+1000"}, {"due": "1700000000000"}])
def test_another_priority_or_schedule_under_the_same_key_is_a_conflict(queue: Queue, other: dict[str, str]) -> None:
    queue.enqueuer.enqueue(submission("a", idempotency_key="k"))
    with pytest.raises(IdempotencyConflict):
        queue.enqueuer.enqueue(submission("a", idempotency_key="k", **other))


def test_a_trace_context_travels_in_the_header(queue: Queue) -> None:
    context = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    queue.enqueuer.enqueue_many([submission("a"), submission("b", trace_context=context), submission("c")])
    assert [read(each).trace_context for each in queue.pending()] == ["", context, ""]


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("tasks:protocol", "1", "tasks:protocol is 1"),
        ("tasks:protocol", "3", "tasks:protocol is 3"),
        ("tasks:dead_letter", [b"{}"], "tasks:dead_letter is a list"),
        ("tasks:pending", [b'{"id":"a","created_at":1,"retry_count":0,"recovered_count":0}'], "tasks:pending holds"),
    ],
)
def test_a_queue_of_another_protocol_is_refused_by_name(queue: Queue, key: str, value: Any, shown: str) -> None:
    if isinstance(value, str):
        queue.client.set(key, value)
    else:
        queue.client.lpush(key, *value)
    before = queue.everything()
    with pytest.raises(NotAccepted, match=f"another protocol than 2 .{shown}.*: drain it with that release"):
        queue.enqueue("a")
    with pytest.raises(OtherProtocol, match=shown):
        queue.consumer()
    assert queue.everything() == before


def test_a_dead_worker_s_list_and_retries_without_a_header_tell_the_first_edition(queue: Queue) -> None:
    queue.client.zadd(queue.keys.consumers, {"old": 1})
    queue.client.lpush(queue.keys.processing("old"), "{}")
    with pytest.raises(NotAccepted, match="tasks:processing:old is a list"):
        queue.enqueue("a")
    queue.client.flushdb()
    queue.client.zadd(queue.keys.delayed, {'{"id":"a"}': 1})
    with pytest.raises(NotAccepted, match="tasks:delayed holds tasks without a header"):
        queue.configured().enqueue("a")


def test_a_bare_object_that_a_foreign_client_pushed_is_not_an_other_protocol(queue: Queue) -> None:
    queue.push(b'{"id":"a","payload":1}')
    queue.enqueue("b")
    assert queue.client.get(queue.keys.protocol) == b"2"
