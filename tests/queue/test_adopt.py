"""Adopt: a command finds what no entry of the registry names, as somebody's hand may leave it."""

import pytest
from support.queue_fixtures import Queue, payloads


def orphan(queue: Queue, name: str = "lost", *names: object) -> None:
    """Tasks that are held by somebody whose entry is gone."""
    queue.enqueue(*(names or ("a",)))
    queue.consumer(name).claim(100)
    queue.client.zrem(queue.keys.consumers, name)


@pytest.mark.law("I4")
def test_tasks_that_no_entry_names_are_adopted_and_then_recovered(queue: Queue) -> None:
    orphan(queue)
    assert queue.reaper.adopt() == 1
    queue.expire("lost")
    assert queue.reaper.sweep().recovered == 1
    assert payloads(queue.pending()) == ["a"]


def test_the_owner_of_adopted_tasks_gets_a_whole_lease_to_speak_up(queue: Queue) -> None:
    orphan(queue)
    queue.reaper.adopt()
    assert queue.lease_left_ms("lost") > queue.config.lease_ms - 10_000
    assert queue.reaper.sweep().recovered == 0


def test_tasks_of_a_consumer_with_an_entry_are_not_adopted_again(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer().claim()
    queue.expire("w1")
    assert queue.reaper.adopt() == 0
    assert queue.lease_left_ms() <= 0, "its lease has not been touched"


@pytest.mark.law("I4")
def test_all_orphans_are_adopted_at_once(queue: Queue) -> None:
    for number in range(30):
        orphan(queue, f"lost{number}")
    assert queue.reaper.adopt() == 30
    assert queue.reaper.adopt() == 0


@pytest.mark.parametrize("namespace", ["{tasks-0}", "a*b", "a?b", "[ab]", "back\\slash", "^"])
def test_orphans_are_found_in_any_namespace_and_in_no_other(queue: Queue, namespace: str) -> None:
    special = queue.configured(namespace=namespace)
    orphan(special)
    orphan(queue.configured(namespace="aXb"))
    orphan(queue.configured(namespace="a"))
    assert special.reaper.adopt() == 1
    assert special.client.zrange(special.keys.consumers, 0, -1) == [b"lost"]


def test_a_consumer_s_name_may_hold_colons(queue: Queue) -> None:
    orphan(queue, "host:12:0")
    queue.reaper.adopt()
    queue.expire("host:12:0")
    assert queue.reaper.sweep().recovered == 1


@pytest.mark.parametrize("entry", [True, False], ids=["with an entry", "without"])
def test_a_name_that_cannot_be_one_of_ours_does_not_stop_the_sweeps(queue: Queue, entry: bool) -> None:
    queue.client.hset(queue.keys.processing("").encode() + b"\xff", "1", "x")
    if entry:
        queue.client.zadd(queue.keys.consumers, {b"\xff": 1})
    orphan(queue)
    assert queue.reaper.adopt() == 1
    queue.expire("lost")
    assert queue.reaper.sweep().recovered == 1


def test_a_name_that_cannot_be_one_of_ours_is_told_once(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.client.hset(queue.keys.processing("").encode() + b"\xff", "1", "x")
    queue.client.zadd(queue.keys.consumers, {b"\xff": 1})
    for _ in range(2):
        queue.reaper.adopt()
        queue.reaper.sweep()
    assert [record.getMessage() for record in caplog.records] == [
        r"No consumer is called b'\xff': what lies under this name is left alone."
    ]


def test_under_the_name_of_one_that_died_a_key_that_is_no_hash_does_not_stop_the_sweeps(queue: Queue) -> None:
    queue.client.set(queue.keys.processing("foreign"), "x")
    queue.client.zadd(queue.keys.consumers, {"foreign": 1})
    orphan(queue)
    assert queue.reaper.adopt() == 1
    assert queue.client.zrange(queue.keys.consumers, 0, -1) == [b"foreign", b"lost"]
    queue.expire("lost")
    assert queue.reaper.sweep().recovered == 1


def test_a_foreign_key_that_is_no_hash_does_not_stop_the_sweeps(queue: Queue) -> None:
    queue.client.set(queue.keys.processing("foreign"), "x")
    orphan(queue)
    queue.reaper.adopt()
    queue.expire("foreign")
    queue.expire("lost")
    assert queue.reaper.sweep().recovered == 1
