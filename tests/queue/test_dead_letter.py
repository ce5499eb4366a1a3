"""Dead letters: kept with the reason, and requeued or purged only on purpose."""

from collections.abc import Callable
from typing import Any

import pytest
from redis.connection import AbstractConnection as Connection
from support.awkward import AWKWARD_IDS, AWKWARD_PAYLOADS
from support.queue_fixtures import Queue, body, entry, ids, payloads, raw_payload
from zeroloss.reference.queue.dead_letters import PAGE, DeadLetters, NotRequeueable
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.errors import LeaseLost, QueueError
from zeroloss.reference.queue.texts import TRACEBACK_CHARS_MAX

BROKEN = b"\xff\x00 no task"


def test_a_task_can_be_given_up_without_having_failed(queue: Queue) -> None:
    task = queue.dead_lettered("a", "No handler is registered for type 'x'.")
    (letter,) = queue.dead_letters.page()
    assert (letter.task.id, letter.error) == (task.id, "No handler is registered for type 'x'.")
    assert letter.task.attempt == 2
    assert queue.held("undertaker") == []
    counters = queue.counters()
    assert (counters["dead_lettered"], counters.get("failed", 0), counters.get("retried", 0)) == (1, 0, 0)


@pytest.mark.law("I3")
def test_a_recovered_task_cannot_be_given_up_by_its_old_owner(queue: Queue) -> None:
    queue.enqueue("a")
    queue.push(BROKEN)
    old = queue.consumer("old")
    stale, broken = old.claim(2)
    queue.kill(old)
    before = queue.everything()
    with pytest.raises(LeaseLost):
        old.dead_letter(stale, "too late")
    with pytest.raises(LeaseLost) as caught:
        old.dead_letter(broken, "too late")
    assert caught.value.task_id == "(unreadable)"
    assert queue.everything() == before


def test_an_unreadable_entry_is_given_up_as_it_is(queue: Queue) -> None:
    queue.push(BROKEN)
    consumer = queue.consumer()
    consumer.dead_letter(consumer.claim()[0], "no task")
    assert queue.dead() == [BROKEN]
    assert queue.held() == []
    assert (queue.counters()["dead_lettered"], queue.counters().get("failed", 0)) == (1, 0)


def test_dead_letters_are_listed_newest_first_with_their_reasons(queue: Queue) -> None:
    tasks = [queue.dead_lettered(name, f"because of {name}") for name in ("a", "b", "c")]
    page = queue.dead_letters.page()
    assert queue.dead_letters.count() == 3
    assert [letter.task.id for letter in page] == [task.id for task in reversed(tasks)]
    assert [letter.error for letter in page] == ["because of c", "because of b", "because of a"]
    assert {(letter.reason, letter.consumer) for letter in page} == {("not_runnable", "undertaker")}


def test_the_next_page_is_that_before_the_last_letter(queue: Queue) -> None:
    for name in "abcde":
        queue.dead_lettered(name)
    first = queue.dead_letters.page(2)
    second = queue.dead_letters.page(2, before=first[-1].id)
    third = queue.dead_letters.page(2, before=second[-1].id)
    assert [letter.task.payload for letter in (*first, *second, *third)] == ["e", "d", "c", "b", "a"]
    assert queue.dead_letters.page(2, before=third[-1].id) == []


@pytest.mark.parametrize("wrong", ["", "x", "1", "-", "+", "1-", "1-0 ", "(1-0", "9" * 30 + "-0"])
def test_a_text_that_is_not_an_id_of_a_letter_is_refused_in_a_sentence(queue: Queue, wrong: str) -> None:
    for act in (lambda: queue.dead_letters.page(before=wrong), lambda: queue.dead_letters.requeue(wrong),
                lambda: queue.dead_letters.purge(wrong)):  # fmt: skip
        with pytest.raises(QueueError, match="is not an id of a dead letter; one looks like"):
            act()


def test_a_dead_letter_tells_when_it_was_given_up_by_the_server_s_clock(queue: Queue) -> None:
    """This includes a task that was recovered too often."""
    before_s, _ = queue.client.time()
    queue.dead_lettered("a")
    strict = queue.configured(max_recoveries=0)
    strict.enqueue("b")
    strict.claim(strict.consumer("w1"))
    strict.kill(strict.consumer("w1"))
    after_s, _ = queue.client.time()
    recovered, given_up = queue.dead_letters.page()
    assert all(before_s * 1000 <= letter.dead_at <= after_s * 1000 + 999 for letter in (given_up, recovered))
    assert [given_up.task.payload, recovered.task.payload] == ["a", "b"]


def test_a_dead_letter_keeps_the_traceback_of_its_last_failure(queue: Queue) -> None:
    unforgiving = queue.configured(max_retries=0)
    unforgiving.enqueue("a")
    consumer = unforgiving.consumer()
    consumer.fail(unforgiving.claim(consumer), "ValueError: no", "in send\nValueError: no")
    (letter,) = queue.dead_letters.page()
    assert (letter.error, letter.traceback) == ("ValueError: no", "in send\nValueError: no")


def test_a_traceback_is_kept_up_to_its_bound(queue: Queue) -> None:
    unforgiving = queue.configured(max_retries=0)
    unforgiving.enqueue("a")
    consumer = unforgiving.consumer()
    consumer.fail(unforgiving.claim(consumer), "no", "x" * 1_000_000 + "innermost")
    assert queue.dead_letters.page()[0].traceback == ("x" * 1_000_000 + "innermost")[-TRACEBACK_CHARS_MAX:]


@pytest.mark.parametrize("fields", [{"a": "b"}, {"entry": BROKEN, "error": b"\xff"}], ids=["empty", "broken"])
def test_a_letter_of_another_make_is_listed_and_cannot_be_requeued(queue: Queue, fields: dict[str, bytes]) -> None:
    queue.client.xadd(queue.keys.dead_letter, fields)
    (letter,) = queue.dead_letters.page()
    assert letter.task is None
    assert letter.error
    with pytest.raises(NotRequeueable, match="purge it instead"):
        queue.dead_letters.requeue(letter.id)
    assert queue.dead_letters.purge(letter.id) == 1


@pytest.mark.law("I1")
def test_a_requeued_task_is_at_the_end_of_the_queue_and_rings(queue: Queue) -> None:
    queue.dead_lettered("a")
    queue.dead_lettered("b")
    assert not queue.rings()
    newest, oldest = queue.dead_letters.page()
    assert queue.dead_letters.requeue(newest.id) == 1
    assert queue.rings()
    assert queue.dead_letters.requeue(oldest.id) == 1
    assert queue.dead() == []
    assert payloads(queue.pending()) == ["b", "a"]


@pytest.mark.law("I5")
def test_a_requeued_task_has_a_new_budget_of_retries_and_its_attempt_goes_on_growing(queue: Queue) -> None:
    (task_id,) = queue.enqueue("a")
    consumer = queue.consumer()
    attempts = []
    for _ in range(2):
        for _ in range(4):
            task = queue.claim(consumer)
            attempts.append(task.attempt)
            consumer.fail(task, "no")
            queue.make_due()
            queue.reaper.promote()
        assert ids(queue.dead()) == [task_id]
        queue.dead_letters.requeue_all()
    assert attempts == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.law("I5")
def test_a_requeued_task_has_a_new_budget_of_recoveries_and_its_attempt_goes_on_growing(queue: Queue) -> None:
    once = queue.configured(max_recoveries=1)
    (task_id,) = once.enqueue("a")
    attempts = []
    for life in range(2):
        for death in range(2):
            consumer = once.consumer(f"w{life}.{death}")
            attempts.append(once.claim(consumer).attempt)
            once.kill(consumer)
        (letter,) = queue.dead_letters.page()
        assert letter.task.id == task_id
        assert letter.error.startswith("Its worker vanished 2 times")
        once.dead_letters.requeue(letter.id)
    assert attempts == [1, 2, 3, 4]


def test_the_first_backoff_after_a_requeue_is_short_again(queue: Queue) -> None:
    growing = queue.configured(backoff_ms=60_000, backoff_max_ms=6_000_000, max_retries=2)
    growing.enqueue("a")
    consumer = growing.consumer()
    for _ in range(3):
        consumer.fail(growing.claim(consumer), "no")
        growing.make_due()
        growing.reaper.promote()
    growing.dead_letters.requeue_all()
    consumer.fail(growing.claim(consumer), "no")
    seconds, _ = queue.client.time()
    ((_, due_ms),) = queue.client.zrange(queue.keys.delayed, 0, -1, withscores=True)
    assert due_ms - seconds * 1000 <= 61_000


def test_a_requeued_task_keeps_its_priority(queue: Queue) -> None:
    queue.enqueuer.enqueue(Submission(payload_json='"a"', priority="low"))
    consumer = queue.consumer()
    consumer.dead_letter(consumer.claim()[0], "no")
    queue.dead_letters.requeue_all()
    assert payloads(queue.pending("low")) == ["a"]


def test_the_letters_of_a_task_are_found_by_its_id(queue: Queue) -> None:
    task = queue.dead_lettered("a")
    queue.dead_lettered("b")
    queue.client.xadd(queue.keys.dead_letter, {"entry": queue.dead()[1], "error": "again"})
    assert [letter.error for letter in queue.dead_letters.find(task.id)] == ["ValueError: no", "again"]
    assert queue.dead_letters.find("someone else") == []
    assert len(queue.dead_letters.find("someone else", task.id)) == 2


def test_a_letter_that_is_gone_is_not_requeued(queue: Queue) -> None:
    queue.dead_lettered("a")
    assert queue.dead_letters.requeue("1-1") == 0
    assert len(queue.dead()) == 1


def test_several_letters_are_requeued_by_one_step_but_those_that_cannot_be_read(queue: Queue) -> None:
    for name in ("a", "b"):
        queue.dead_lettered(name)
    queue.client.xadd(queue.keys.dead_letter, {"entry": BROKEN, "error": "no task"})
    names = [letter.id for letter in reversed(queue.dead_letters.page())]
    with pytest.raises(NotRequeueable, match=names[2]):
        queue.dead_letters.requeue(*names)
    assert payloads(queue.pending()) == ["a", "b"]


def test_all_that_can_be_read_is_requeued_oldest_first(queue: Queue) -> None:
    for name in ("a", "b", "c"):
        queue.dead_lettered(name)
    queue.client.xadd(queue.keys.dead_letter, {"entry": BROKEN, "error": "no task"})
    assert queue.dead_letters.requeue_all() == 3
    assert payloads(queue.pending()) == ["a", "b", "c"]
    assert queue.dead() == [BROKEN]


def bury(queue: Queue, count: int, more: str = "") -> None:
    with queue.client.pipeline(transaction=False) as pipeline:
        for number in range(count):
            payload = f'[{number},"{more}"]' if more else str(number)
            pipeline.xadd(queue.keys.dead_letter, {"entry": entry(str(number), payload), "error": "no"})
        pipeline.execute()


def size(reply: object) -> int:
    return sum(map(size, reply)) if isinstance(reply, list) else len(reply) if isinstance(reply, bytes) else 0


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes in bytes of Redis's replies, as they arrive."""
    sizes: list[int] = []

    def read_response(self: Connection, *arguments: Any, **options: Any) -> Any:
        reply = original(self, *arguments, **options)
        sizes.append(size(reply))
        return reply

    original = Connection.read_response
    monkeypatch.setattr(Connection, "read_response", read_response)
    return sizes


@pytest.mark.parametrize("act", [DeadLetters.requeue_all, DeadLetters.purge_all, lambda dead: dead.find("x")])
def test_large_letters_are_read_in_replies_of_a_bounded_size(
    queue: Queue, replies: list[int], act: Callable[[DeadLetters], Any]
) -> None:
    bury(queue, 12)
    bury(queue, 24, "x" * 1_000_000)
    assert act(queue.dead_letters) in (36, [])
    assert max(replies) < 2_000_000
    assert len(queue.pending()) + queue.dead_letters.count() == (0 if act is DeadLetters.purge_all else 36)


def test_small_letters_are_read_a_thousand_at_a_time(queue: Queue, replies: list[int]) -> None:
    bury(queue, 3 * PAGE)
    del replies[:]
    assert queue.dead_letters.find("x") == []
    assert len(replies) < 10


def test_one_script_requeues_a_bounded_number_of_bytes_and_all_letters_are_requeued(
    queue: Queue, replies: list[int]
) -> None:
    bury(queue, 40, "x" * 1_000_000)
    names = [name.decode() for name, _ in queue.client.xrange(queue.keys.dead_letter)]
    assert queue.dead_letters.requeue("1-1") == 0  # the server knows the script now
    del replies[:]
    assert queue.dead_letters.requeue(*names) == 40
    assert len(replies) == 3
    assert [payload[0] for payload in payloads(queue.pending())] == [*range(40)]


def test_more_than_a_page_is_requeued_in_order(queue: Queue) -> None:
    bury(queue, 2 * PAGE + 1)
    assert queue.dead_letters.requeue_all() == 2 * PAGE + 1
    assert payloads(queue.pending()) == [*range(2 * PAGE + 1)]


@pytest.mark.law("I6")
@pytest.mark.parametrize("payload_json", AWKWARD_PAYLOADS, ids=AWKWARD_IDS)
def test_a_payload_keeps_its_bytes_through_a_requeue(queue: Queue, payload_json: str) -> None:
    queue.enqueue_text(payload_json)
    consumer = queue.consumer()
    consumer.dead_letter(consumer.claim()[0], "no")
    queue.dead_letters.requeue_all()
    assert raw_payload(queue.pending()[0]) == payload_json


@pytest.mark.law("I6")
def test_a_foreign_object_keeps_its_bytes_through_death_and_requeue(queue: Queue) -> None:
    pushed = b'{"id":"t1","trace":{"a": 1.10},"deadline":1E5}'
    queue.push(pushed)
    consumer = queue.consumer()
    consumer.dead_letter(consumer.claim()[0], "no")
    queue.dead_letters.requeue_all()
    assert body(queue.pending()[0]) == pushed


def test_one_letter_is_purged_by_its_id(queue: Queue) -> None:
    queue.dead_lettered("a")
    queue.dead_lettered("b")
    assert queue.dead_letters.purge(queue.dead_letters.page()[1].id) == 1
    assert payloads(queue.dead()) == ["b"]


def test_a_purge_of_none_purges_none(queue: Queue) -> None:
    queue.dead_lettered("a")
    assert queue.dead_letters.purge() == 0
    assert len(queue.dead()) == 1


def test_everything_dead_is_purged_and_nothing_else(queue: Queue) -> None:
    bury(queue, PAGE + 1)
    queue.client.xadd(queue.keys.dead_letter, {"entry": BROKEN, "error": "no task"})
    queue.enqueue("alive")
    assert queue.dead_letters.purge_all() == PAGE + 2
    assert queue.dead() == []
    assert payloads(queue.pending()) == ["alive"]
