"""The reference's target maps each answer of the Python API to an outcome."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import msgspec
import pytest
import redis
from zeroloss.reference.queue.client import NewTask, Queue
from zeroloss.reference.queue.enqueuing.submission import Accepted
from zeroloss.reference.queue.errors import IdempotencyConflict, OutcomeUnknown, QueueFull, TaskTooLarge
from zeroloss.reference.queue.keys import Keys
from zeroloss.system.servers import Server
from zeroloss.target import Conflict, Refused, Task, WrongAnswer
from zeroloss.targets.reference_http import one_in
from zeroloss.targets.reference_python import PythonClient, new_task

LARGE = 1_048_576
TEXT = '{"id":"one","fixed":1.10}'


def task(name: str, **members: Any) -> Task:
    return Task(name, {}, text=TEXT, **members)


def type_of(_task: Task) -> str:
    return "chaos"


@pytest.fixture
def server(open_own_server: Callable[..., Server]) -> Server:
    return open_own_server(appendfsync=None)


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as connected:
        yield connected


def test_a_task_and_a_batch_are_enqueued_with_their_text_and_what_is_too_large_is_refused(
    server: Server, client: redis.Redis
) -> None:
    python = PythonClient(server.url, "zeroloss", LARGE)
    assert python.enqueue(task("one", priority="high"), "chaos", None, 0.0) == "one"
    assert python.enqueue_many([task("two"), task("three", priority="low")], type_of, "key", 0.0) == []
    assert sorted(client.lrange(key, 0, -1)[0].decode()[0] for key in client.keys("zeroloss:pending*")) == [
        "d",
        "h",
        "l",
    ]
    assert all(TEXT.encode() in client.lrange(key, 0, -1)[0] for key in client.keys("zeroloss:pending*"))


def test_the_tasks_of_a_batch_have_keys_of_their_own_however_long_the_batch_s_is(server: Server) -> None:
    python = PythonClient(server.url, "zeroloss", LARGE)
    assert python.enqueue_many([task("one"), task("two")], type_of, "k" * 256, 0.0) == []


def test_a_task_that_is_enqueued_again_under_its_key_is_there_once(server: Server, client: redis.Redis) -> None:
    python = PythonClient(server.url, "zeroloss", LARGE)
    assert python.enqueue(task("one"), "chaos", "key", 0.0) == "one"
    assert client.llen(Keys("zeroloss").pending) == 1
    with pytest.raises(Conflict):
        python.enqueue(Task("one", {}, text="[]"), "chaos", "key", 0.0)


def test_where_redis_is_away_nothing_was_accepted(server: Server) -> None:
    python = PythonClient(server.url, "zeroloss", LARGE)
    server.kill()
    with pytest.raises(Refused, match="Nothing was accepted"):
        python.enqueue(task("one"), "chaos", None, 0.0)


class Scripted(PythonClient):
    """A client whose queue returns these answers in turn."""

    def __init__(self, *answers: Any) -> None:
        self._large = NewTask("large", "x")
        self.queue = Answers(answers)  # type: ignore[assignment]


class Answers(Queue):
    def __init__(self, answers: Any) -> None:
        self.left = list(answers)

    def enqueue(self, *_: Any, **_options: Any) -> Any:
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    enqueue_many = enqueue


TOO_LARGE = TaskTooLarge(9, 8)
ONE, TWO, OTHER = Accepted("one", False), Accepted("two", False), Accepted("other", False)
FULL = QueueFull(2, 1)


def test_a_task_for_which_there_is_no_room_is_enqueued_again_until_there_is() -> None:
    assert Scripted(FULL, FULL, ONE).enqueue(task("one"), "chaos", None, 30.0) == "one"
    with pytest.raises(Refused, match="holds 2 pending"):
        Scripted(FULL).enqueue(task("one"), "chaos", None, 0.0)


@pytest.mark.parametrize(
    ("again", "wrong"),
    [
        (FULL, True),
        ([TOO_LARGE, IdempotencyConflict("key")], True),
        ([TOO_LARGE, OTHER], True),
        ([TOO_LARGE, ONE], False),
        ([TOO_LARGE, OutcomeUnknown("cut")], False),
        (OutcomeUnknown("cut"), False),
    ],
)
def test_a_task_that_is_enqueued_again_under_its_key_must_be_accepted_as_the_same_one(again: Any, wrong: bool) -> None:
    python = Scripted(ONE, again)
    if wrong:
        with pytest.raises(WrongAnswer, match="when it is enqueued again"):
            python.enqueue(task("one"), "chaos", "key", 0.0)
    else:
        assert python.enqueue(task("one"), "chaos", "key", 0.0) == "one"


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([ONE, ONE, TWO], "one was to be too large"),
        ([TOO_LARGE, ONE], "one was to be too large"),
        ([TOO_LARGE, ONE, OTHER], "Another task was promised"),
    ],
)
def test_an_answer_to_a_batch_that_can_not_be_true_is_wrong(answers: Any, says: str) -> None:
    with pytest.raises(WrongAnswer, match=says):
        Scripted(answers).enqueue_many([task("one"), task("two")], type_of, None, 0.0)


def test_a_promise_of_another_task_is_wrong() -> None:
    with pytest.raises(WrongAnswer, match="Another task was promised"):
        Scripted(OTHER).enqueue(task("one"), "chaos", None, 0.0)


def test_of_a_batch_those_that_are_refused_are_named_and_what_is_unknown_leaves_all_open() -> None:
    batch = [task("one"), task("two")]
    assert Scripted([TOO_LARGE, ONE, FULL]).enqueue_many(batch, type_of, None, 0.0) == ["two"]
    with pytest.raises(RuntimeError, match="unknown what became"):
        Scripted([TOO_LARGE, ONE, OutcomeUnknown("cut")]).enqueue_many(batch, type_of, None, 0.0)


def test_half_of_the_schedules_without_a_key_are_times_and_each_is_the_payload_s_text() -> None:
    timed = next(name for name in map(str, range(99)) if one_in(2, name, "timed"))
    other = next(name for name in map(str, range(99)) if not one_in(2, name, "timed"))
    made = [
        new_task(task(name, delay_ms=700), "chaos", key) for name, key in ((timed, None), (other, None), (timed, "k"))
    ]
    assert [one.delay_ms for one in made] == [None, 700, 700]
    assert [one.execute_at is not None for one in made] == [True, False, False]
    assert isinstance(made[0].execute_at, datetime)
    assert made[0].execute_at.utcoffset()
    assert {bytes(one.payload) for one in made} == {TEXT.encode()}
    assert all(isinstance(one.payload, msgspec.Raw) for one in made)
