"""Dead letters: given up, kept with the reason, and given another chance or thrown away only on purpose."""

import hashlib

import pytest
from support.awkward import AWKWARD_IDS, AWKWARD_PAYLOADS
from support.queue_fixtures import Queue, ids, payloads
from zeroloss.reference.queue.dead_letters import PAGE, NotRequeueable
from zeroloss.reference.queue.errors import LeaseLost
from zeroloss.reference.queue.task import decode, raw_members
from zeroloss.reference.queue.texts import TRACEBACK_CHARS_MAX

BROKEN = b"\xff\x00 no task"


def test_a_task_can_be_given_up_without_having_failed(queue: Queue) -> None:
    task = queue.dead_lettered("a", "No handler is registered for type 'x'.")
    (element,) = queue.dead()
    assert (decode(element).id, decode(element).error) == (task.id, "No handler is registered for type 'x'.")
    assert queue.held("undertaker") == []
    counters = queue.counters()
    assert (counters["dead_lettered"], counters.get("failed", 0), counters.get("retried", 0)) == (1, 0, 0)


@pytest.mark.law("I3")
def test_a_recovered_task_cannot_be_given_up_by_its_old_owner(queue: Queue) -> None:
    queue.enqueue("a")
    queue.client.lpush(queue.keys.pending, BROKEN)
    old = queue.consumer("old")
    stale, broken = old.claim(2)
    queue.kill(old)
    before = queue.everything()
    with pytest.raises(LeaseLost):
        old.dead_letter(decode(stale), "too late")
    with pytest.raises(LeaseLost) as caught:
        old.dead_letter_undecodable(broken)
    assert caught.value.task_id == "(undecodable)"
    assert queue.everything() == before


def test_an_undecodable_element_is_given_up_as_it_is(queue: Queue) -> None:
    queue.client.lpush(queue.keys.pending, BROKEN)
    consumer = queue.consumer()
    consumer.dead_letter_undecodable(consumer.claim()[0])
    assert queue.dead() == [BROKEN]
    assert queue.held() == []
    assert (queue.counters()["dead_lettered"], queue.counters().get("failed", 0)) == (1, 0)


def test_dead_letters_are_listed_newest_first_with_their_reasons(queue: Queue) -> None:
    tasks = [queue.dead_lettered(name, f"because of {name}") for name in ("a", "b", "c")]
    page = queue.dead_letters.page()
    assert queue.dead_letters.count() == 3
    assert [letter.id for letter in page] == [task.id for task in reversed(tasks)]
    assert [letter.error for letter in page] == ["because of c", "because of b", "because of a"]
    assert [letter.task.payload for letter in queue.dead_letters.page(1, 1)] == ["b"]


def test_a_dead_letter_tells_when_it_was_given_up_by_the_server_s_clock(queue: Queue) -> None:
    """Also one that was recovered too often."""
    before_s, _ = queue.client.time()
    queue.dead_lettered("a")
    strict = queue.configured(max_recoveries=0)
    strict.enqueue("b")
    strict.claim(strict.consumer("w1"))
    strict.kill(strict.consumer("w1"))
    after_s, _ = queue.client.time()
    recovered, given_up = queue.dead_letters.page()
    assert [before_s * 1000 <= (letter.dead_at or 0) <= after_s * 1000 + 999 for letter in (given_up, recovered)] == [
        True,
        True,
    ]
    assert [given_up.task.payload, recovered.task.payload] == ["a", "b"]


def test_a_dead_letter_keeps_the_traceback_of_its_last_failure(queue: Queue) -> None:
    unforgiving = queue.configured(max_retries=0)
    unforgiving.enqueue("a")
    consumer = unforgiving.consumer()
    consumer.fail(unforgiving.claim(consumer), "ValueError: no", "in send\nValueError: no")
    (letter,) = queue.dead_letters.page()
    assert (letter.error, letter.traceback) == ("ValueError: no", "in send\nValueError: no")


def test_a_task_that_waits_for_its_retry_carries_no_traceback(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = queue.consumer()
    consumer.fail(queue.claim(consumer), "ValueError: no", "in send\nValueError: no")
    assert b"in send" not in queue.delayed()[0]


def test_a_traceback_is_kept_up_to_its_bound(queue: Queue) -> None:
    unforgiving = queue.configured(max_retries=0)
    unforgiving.enqueue("a")
    consumer = unforgiving.consumer()
    consumer.fail(unforgiving.claim(consumer), "no", "x" * 1_000_000 + "innermost")
    assert queue.dead_letters.page()[0].traceback == ("x" * 1_000_000 + "innermost")[-TRACEBACK_CHARS_MAX:]


@pytest.mark.parametrize("wrong", [b'{"id":"a","traceback":7,"dead_at":"now"}', b'{"id":"a","dead_at":true}', BROKEN])
def test_a_dead_letter_of_another_make_is_listed_without_time_and_traceback(queue: Queue, wrong: bytes) -> None:
    queue.client.lpush(queue.keys.dead_letter, wrong)
    (letter,) = queue.dead_letters.page()
    assert (letter.traceback, letter.dead_at) == ("", None)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_page_of_none_is_empty(queue: Queue, limit: int) -> None:
    queue.dead_lettered("a")
    queue.dead_lettered("b")
    assert queue.dead_letters.page(limit=limit) == []


def test_a_dead_letter_without_a_reason_is_listed_without_one(queue: Queue) -> None:
    queue.client.lpush(queue.keys.dead_letter, b'{"id":"a","payload":null}')
    assert [letter.error for letter in queue.dead_letters.page()] == [""]


def test_an_undecodable_dead_letter_is_listed_by_its_digest(queue: Queue) -> None:
    queue.client.lpush(queue.keys.dead_letter, BROKEN)
    (letter,) = queue.dead_letters.page()
    assert letter.id.startswith("undecodable-")
    assert (letter.task, letter.element) == (None, BROKEN)
    assert letter.id == f"undecodable-{hashlib.sha256(BROKEN).hexdigest()[:16]}"
    assert letter.error.startswith("It cannot be decoded: ")


@pytest.mark.law("I1")
def test_a_requeued_task_is_at_the_end_of_the_queue_without_its_reason(queue: Queue) -> None:
    task = queue.dead_lettered("a")
    queue.enqueue("b")
    assert queue.dead_letters.requeue(task.id) == 1
    assert queue.dead() == []
    assert payloads(queue.pending()) == ["b", "a"]
    assert decode(queue.pending()[1]).error is None
    assert not {"error", "traceback", "dead_at"} & {*raw_members(queue.pending()[1].decode())}


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
        queue.dead_letters.requeue(task_id)
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
        assert ids(queue.dead()) == [task_id]
        assert decode(queue.dead()[0]).error.startswith("Its worker vanished 2 times")
        once.dead_letters.requeue(task_id)
    assert attempts == [1, 2, 3, 4]


def test_the_first_backoff_after_a_requeue_is_short_again(queue: Queue) -> None:
    growing = queue.configured(backoff_ms=60_000, backoff_max_ms=6_000_000, max_retries=2)
    (task_id,) = growing.enqueue("a")
    consumer = growing.consumer()
    for _ in range(3):
        consumer.fail(growing.claim(consumer), "no")
        growing.make_due()
        growing.reaper.promote()
    growing.dead_letters.requeue(task_id)
    consumer.fail(growing.claim(consumer), "no")
    seconds, _ = queue.client.time()
    ((_, due_ms),) = queue.client.zrange(queue.keys.delayed, 0, -1, withscores=True)
    assert due_ms - seconds * 1000 <= 61_000


def test_a_task_that_dies_again_tells_of_its_last_death_only(queue: Queue) -> None:
    unforgiving = queue.configured(max_retries=0)
    queue.client.lpush(queue.keys.pending, b'{"id":"a","dead_at":5,"traceback":"old","error":"old"}')
    consumer = unforgiving.consumer()
    consumer.fail(unforgiving.claim(consumer), "new")
    element = queue.dead()[0].decode()
    assert [element.count(f'"{name}":') for name in ("error", "traceback", "dead_at")] == [1, 0, 1]
    assert (queue.dead_letters.page()[0].dead_at or 0) > 5


def test_every_dead_task_of_an_id_is_requeued(queue: Queue) -> None:
    task = queue.dead_lettered("a")
    queue.client.lpush(queue.keys.dead_letter, queue.dead()[0])
    assert queue.dead_letters.requeue(task.id) == 2
    assert queue.dead() == []
    assert ids(queue.pending()) == [task.id, task.id]


@pytest.mark.parametrize(
    "written",
    ['"a/é"', '"a\\/é"', '"a/\\u00e9"', '"\\u0061/é"', ' "a/é" '],
    ids=["plain", "slash", "accent", "letter", "space"],
)
def test_a_dead_task_is_found_however_its_id_is_written(queue: Queue, written: str) -> None:
    queue.client.lpush(queue.keys.dead_letter, f'{{"id":{written},"payload":"the one"}}'.encode())
    queue.client.lpush(queue.keys.dead_letter, b'{"id":"b","payload":"a/\xc3\xa9"}')
    assert queue.dead_letters.requeue("a/é") == 1
    assert payloads(queue.pending()) == ["the one"]


def test_a_dead_task_whose_id_is_no_text_is_found(queue: Queue) -> None:
    queue.client.lpush(queue.keys.dead_letter, b'{"id":"\\ud800","payload":"the one"}')
    assert queue.dead_letters.requeue("\ud800") == 1


def test_an_id_that_is_not_dead_is_not_requeued(queue: Queue) -> None:
    queue.dead_lettered("a")
    assert queue.dead_letters.requeue("somebody else") == 0
    assert len(queue.dead()) == 1


def test_all_that_can_be_decoded_is_requeued_oldest_first(queue: Queue) -> None:
    for name in ("a", "b", "c"):
        queue.dead_lettered(name)
    queue.client.lpush(queue.keys.dead_letter, BROKEN)
    assert queue.dead_letters.requeue_all() == 3
    assert payloads(queue.pending()) == ["a", "b", "c"]
    assert queue.dead() == [BROKEN]


def test_more_than_a_page_is_requeued_in_order(queue: Queue) -> None:
    count = 2 * PAGE + 1
    queue.enqueue(*range(count))
    elements = queue.pending()
    queue.client.delete(queue.keys.pending)
    queue.client.lpush(queue.keys.dead_letter, *elements)
    assert queue.dead_letters.requeue_all() == count
    assert payloads(queue.pending()) == list(range(count))


def test_an_undecodable_element_cannot_be_requeued(queue: Queue) -> None:
    queue.client.lpush(queue.keys.dead_letter, BROKEN)
    (letter,) = queue.dead_letters.page()
    with pytest.raises(NotRequeueable, match="purge it instead"):
        queue.dead_letters.requeue(letter.id)
    assert queue.dead() == [BROKEN]


@pytest.mark.law("I6")
@pytest.mark.parametrize("payload_json", AWKWARD_PAYLOADS, ids=AWKWARD_IDS)
def test_a_payload_keeps_its_bytes_through_a_requeue(queue: Queue, payload_json: str) -> None:
    queue.enqueue_text(payload_json)
    consumer = queue.consumer()
    task = queue.claim(consumer)
    consumer.dead_letter(task, "no")
    queue.dead_letters.requeue(task.id)
    assert raw_members(queue.pending()[0].decode())["payload"] == payload_json


@pytest.mark.law("I6")
def test_unknown_members_keep_their_bytes_through_death_and_requeue(queue: Queue) -> None:
    queue.client.lpush(queue.keys.pending, b'{"id":"t1","trace":{"a": 1.10},"deadline":1E5}')
    consumer = queue.consumer()
    consumer.dead_letter(queue.claim(consumer), "no")
    queue.dead_letters.requeue("t1")
    members = raw_members(queue.pending()[0].decode())
    assert (members["trace"], members["deadline"]) == ('{"a": 1.10}', "1E5")


def test_one_dead_task_is_purged_by_its_id(queue: Queue) -> None:
    doomed = queue.dead_lettered("a")
    queue.dead_lettered("b")
    assert queue.dead_letters.purge(doomed.id) == 1
    assert payloads(queue.dead()) == ["b"]


def test_an_undecodable_element_is_purged_by_the_id_it_is_listed_under(queue: Queue) -> None:
    queue.client.lpush(queue.keys.dead_letter, BROKEN)
    assert queue.dead_letters.purge(queue.dead_letters.page()[0].id) == 1
    assert queue.dead() == []


def test_everything_dead_is_purged_and_nothing_else(queue: Queue) -> None:
    queue.dead_lettered("a")
    queue.client.lpush(queue.keys.dead_letter, BROKEN)
    queue.enqueue("alive")
    assert queue.dead_letters.purge_all() == 2
    assert queue.dead() == []
    assert payloads(queue.pending()) == ["alive"]
