"""`Queue`, the API for producers in Python: tasks it enqueues, and requests it refuses before it sends anything."""

import datetime
import multiprocessing
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.queue_fixtures import Queue as Seen
from support.queue_fixtures import ids, payloads
from zeroloss.reference import (
    Accepted,
    Config,
    ConfigError,
    IdempotencyConflict,
    InvalidTask,
    NewTask,
    NotAccepted,
    Queue,
    QueueFull,
    TaskTooLarge,
)
from zeroloss.reference.queue.client import NESTING_MAX
from zeroloss.reference.queue.connection import connect


@pytest.fixture
def producer(queue: Seen) -> Iterator[Queue]:
    with Queue.connect(queue.config.redis_url, max_task_bytes=10_000, max_pending=20) as connected:
        yield connected


def test_a_task_is_enqueued_with_its_type_and_the_id_of_the_promise(producer: Queue, queue: Seen) -> None:
    accepted = producer.enqueue("email", {"to": "a@b.c"})
    task = queue.claim(queue.consumer())
    assert (task.id, task.type, task.payload) == (accepted.task_id, "email", {"to": "a@b.c"})
    assert not accepted.replayed


def test_a_chosen_id_is_kept_and_a_key_makes_a_repetition_the_same_task(producer: Queue, queue: Seen) -> None:
    assert producer.enqueue("email", 1, id="mine", idempotency_key="k") == Accepted("mine", replayed=False)
    assert producer.enqueue("email", 1, id="mine", idempotency_key="k") == Accepted("mine", replayed=True)
    with pytest.raises(IdempotencyConflict):
        producer.enqueue("email", 2, id="mine", idempotency_key="k")
    assert ids(queue.pending()) == ["mine"]


def test_many_are_enqueued_in_one_step_and_answered_in_their_order(producer: Queue, queue: Seen) -> None:
    outcomes = producer.enqueue_many(
        [NewTask("a", 1, id="t1"), NewTask("b", "x" * 10_000), NewTask("c", None, id="t3", idempotency_key="k")]
    )
    assert outcomes[::2] == [Accepted("t1", replayed=False), Accepted("t3", replayed=False)]
    assert isinstance(outcomes[1], TaskTooLarge)
    assert ids(queue.pending()) == ["t1", "t3"]
    with pytest.raises(QueueFull):
        producer.enqueue_many([NewTask("a", n) for n in range(19)])
    assert ids(queue.pending()) == ["t1", "t3"]


class Email(msgspec.Struct):
    to: str
    sent: datetime.date


@pytest.mark.law("I6")
@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (Email("a@b.c", datetime.date(2026, 1, 2)), '{"to": "a@b.c", "sent": "2026-01-02"}'),
        (msgspec.Raw(b'{"a":  1.10}'), '{"a":  1.10}'),
        ({1: "\u00e9"}, '{"1": "\u00e9"}'),
        (10**30, "1" + "0" * 30),
        ([[]] * 300, f"[{', '.join(['[]'] * 300)}]"),
    ],
    ids=["a Struct", "JSON itself", "keys and letters", "a large number", "a wide array"],
)
def test_a_payload_is_stored_as_the_json_that_it_is(producer: Queue, queue: Seen, payload: Any, text: str) -> None:
    producer.enqueue("email", payload)
    (element,) = queue.pending()
    stored = element.decode().partition('"payload":')[2]
    assert stored.startswith(text)
    assert stored[len(text)] in ",}"


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def test_a_payload_may_be_nested_as_deep_as_allowed(producer: Queue, queue: Seen) -> None:
    producer.enqueue("email", nested(NESTING_MAX))
    assert payloads(queue.pending()) == [nested(NESTING_MAX)]


REFUSED = {
    "an object": (object(), "The payload cannot be written as JSON: Encoding objects of type object is unsupported."),
    "NaN": (float("nan"), "The payload cannot be written as JSON: "),
    "text that is not JSON": (msgspec.Raw(b"not json"), "The payload cannot be written as JSON: Expecting value: "),
    "NaN in JSON": (msgspec.Raw(b"[NaN]"), "The payload cannot be written as JSON: NaN is not JSON."),
    "bytes that are not text": (msgspec.Raw(b'"\xff"'), "The payload cannot be written as JSON: 'utf-8' codec "),
    "half a surrogate pair": ("\ud800", "The payload cannot be written as JSON: 'utf-8' codec "),
    "nested deep": (nested(NESTING_MAX + 1), "The payload is nested deeper than 200 levels; flatten it."),
    "nested very deep": (nested(100_000), "The payload is nested deeper than 200 levels; flatten it."),
    "nested deep in JSON": (msgspec.Raw(b"[" * 100_000 + b"]" * 100_000), "The payload is nested deeper than 200 "),
}


@pytest.mark.parametrize(("payload", "sentence"), REFUSED.values(), ids=REFUSED)
def test_a_payload_that_is_not_json_is_refused_in_one_sentence(
    producer: Queue, queue: Seen, payload: Any, sentence: str
) -> None:
    for act in (
        lambda: producer.enqueue("email", payload),
        lambda: producer.enqueue_many([NewTask("email", 1), NewTask("email", payload)]),
    ):
        with pytest.raises(InvalidTask) as caught:
            act()
        assert str(caught.value).startswith(sentence)
        assert str(caught.value).endswith(".")
    assert queue.everything() == {}


@pytest.mark.parametrize("value", ["", "x" * 257, "a\nb", 1, b"a", "\ud800"], ids=repr)
@pytest.mark.parametrize("member", ["type", "id", "idempotency_key"])
def test_a_name_that_cannot_be_shown_is_refused(producer: Queue, queue: Seen, member: str, value: Any) -> None:
    with pytest.raises(InvalidTask) as caught:
        producer.enqueue_many([NewTask(**{"type": "email", "payload": 1, member: value})])
    assert str(caught.value) == f"{member} must be a text of 1 to 256 printable characters."
    assert queue.everything() == {}


def test_the_figures_and_the_dead_letters_are_the_queue_s(producer: Queue, queue: Seen) -> None:
    dead = queue.dead_lettered("x", "ValueError: no")
    producer.enqueue("email", 1)
    reading = producer.stats()
    assert (reading.pending, reading.dead_letter) == (1, 1)
    (letter,) = producer.dead_letters.page()
    assert letter.task.id == dead.id
    assert producer.dead_letters.requeue(letter.id) == 1
    assert producer.stats().pending == 2


def test_a_namespace_and_settings_are_arguments_and_win_over_the_environment(
    queue: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROLOSS_NAMESPACE", "theirs")
    monkeypatch.setenv("REDIS_URL", queue.config.redis_url)
    with Queue.connect() as theirs, Queue.connect(namespace="mine") as mine:
        theirs.enqueue("email", 1)
        mine.enqueue("email", 2)
    assert {key.decode() for key in queue.client.keys("*:pending")} == {"theirs:pending", "mine:pending"}
    with pytest.raises(ConfigError, match="max_pending must be a whole number"):
        Queue.connect(max_pending=0)


def test_a_server_that_is_not_there_has_accepted_nothing(dead_port: int) -> None:
    with Queue.connect(f"redis://127.0.0.1:{dead_port}/0") as nowhere, pytest.raises(NotAccepted):
        nowhere.enqueue("email", 1)


CLIENTS = {
    "redis-py's defaults": (redis.Redis, "repeats commands after a lost reply"),
    "a retry on an error": (
        lambda: redis.Redis.from_url("redis://h/0", retry=None, retry_on_error=[redis.TimeoutError]),
        "repeats commands after a lost reply",
    ),
    "decoded replies": (lambda: redis.Redis(retry=Retry(NoBackoff(), 0), decode_responses=True), "decodes its replies"),
    "decoded replies by the URL": (
        lambda: redis.Redis.from_url("redis://h/0?decode_responses=true", retry=None),
        "decodes its replies",
    ),
}


@pytest.mark.parametrize(("make", "wrong"), CLIENTS.values(), ids=CLIENTS)
def test_a_client_that_would_break_a_promise_is_refused_in_one_sentence(
    make: Callable[[], redis.Redis], wrong: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Queue(make(), Config())
    assert str(caught.value).startswith(f"This Redis client {wrong}")
    assert str(caught.value).endswith(": make the queue with Queue.connect(url) instead.")


def test_a_client_that_repeats_nothing_is_taken(queue: Seen) -> None:
    for client in (queue.client, connect(queue.config)):
        Queue(client, queue.config).enqueue("email", 1)
    assert len(queue.pending()) == 2


def test_a_producer_that_forks_after_it_connected_goes_on_in_both_processes(producer: Queue, queue: Seen) -> None:
    producer.enqueue("email", "before")
    forked = multiprocessing.get_context("fork").Process(target=producer.enqueue, args=("email", "in the child"))
    forked.start()
    producer.enqueue("email", "in the parent")
    forked.join(30)
    assert forked.exitcode == 0
    assert sorted(payloads(queue.pending())) == ["before", "in the child", "in the parent"]
