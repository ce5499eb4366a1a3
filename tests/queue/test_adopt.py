"""Adopt: the slow sweep finds lists that no entry names, and forgets tombstones only when nothing can be lost by it."""

from itertools import pairwise

import pytest
from support.queue_fixtures import Queue, payloads
from support.waiting import wait_until
from zeroloss.reference.queue import reaper
from zeroloss.reference.queue.reaper import Reaper, Sweep
from zeroloss.reference.worker.process import ADOPT_STEPS, Maintenance

OLD_MS = 2 * 3_600_000  # older than the default tombstone


def orphan(queue: Queue, name: str = "lost", *names: object) -> None:
    """A list whose entry is gone, as after a server that came back without its last writes."""
    queue.enqueue(*(names or ("a",)))
    queue.consumer(name).claim(100)
    queue.client.zrem(queue.keys.consumers, name)


def age(queue: Queue, name: str = "w1") -> None:
    """The lease ended long ago."""
    queue.client.zincrby(queue.keys.consumers, -OLD_MS, name)


@pytest.mark.law("I4")
def test_a_list_that_no_entry_names_is_adopted_and_then_recovered(queue: Queue) -> None:
    orphan(queue)
    assert queue.reaper.adopt() == 1
    queue.reaper.expire("lost")
    assert queue.reaper.sweep().recovered == 1
    assert payloads(queue.pending()) == ["a"]


def test_the_owner_of_an_adopted_list_gets_a_whole_lease_to_speak_up(queue: Queue) -> None:
    orphan(queue)
    queue.reaper.adopt()
    assert queue.lease_left_ms("lost") > queue.config.lease_ms - 10_000
    assert queue.reaper.sweep().recovered == 0


def test_a_list_with_an_entry_is_not_adopted_again(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer().claim()
    queue.reaper.expire("w1")
    assert queue.reaper.adopt() == 0
    assert queue.lease_left_ms() <= 0, "its lease has not been touched"


@pytest.mark.law("I4")
def test_all_orphans_are_adopted_in_one_sweep(queue: Queue) -> None:
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
    queue.reaper.expire("host:12:0")
    assert queue.reaper.sweep().recovered == 1


def test_an_old_tombstone_with_an_empty_list_is_forgotten(queue: Queue) -> None:
    queue.consumer()
    age(queue)
    queue.reaper.adopt()
    assert queue.lease_left_ms() is None


@pytest.mark.law("I2")
def test_an_old_tombstone_with_tasks_is_not_forgotten(queue: Queue) -> None:
    queue.enqueue("a")
    queue.consumer().claim()
    age(queue)
    queue.reaper.adopt()
    assert queue.lease_left_ms() is not None
    assert queue.reaper.sweep().recovered == 1


def test_a_young_tombstone_is_not_forgotten(queue: Queue) -> None:
    queue.consumer()
    queue.reaper.expire("w1")
    queue.reaper.adopt()
    assert queue.lease_left_ms() is not None


def test_a_living_consumer_is_not_forgotten(queue: Queue) -> None:
    queue.consumer()
    queue.reaper.adopt()
    assert queue.lease_left_ms() > 0


@pytest.mark.law("I4")
def test_a_task_handed_to_a_forgotten_consumer_is_found_all_the_same(queue: Queue) -> None:
    queue.consumer()
    age(queue)
    queue.reaper.adopt()
    queue.enqueue("very late")
    queue.client.lmove(queue.keys.pending, queue.keys.processing("w1"), "RIGHT", "LEFT")
    assert queue.reaper.adopt() == 1
    queue.reaper.expire("w1")
    assert queue.reaper.sweep().recovered == 1
    assert payloads(queue.pending()) == ["very late"]


@pytest.mark.parametrize("entry", [True, False], ids=["with an entry", "without"])
def test_a_name_that_cannot_be_one_of_ours_does_not_stop_the_sweeps(queue: Queue, entry: bool) -> None:
    queue.client.lpush(queue.keys.processing("").encode() + b"\xff", "x")
    if entry:
        queue.client.zadd(queue.keys.consumers, {b"\xff": 1})
    orphan(queue)
    assert queue.reaper.adopt() == 1
    queue.reaper.expire("lost")
    assert queue.reaper.sweep().recovered == 1


def test_a_name_that_cannot_be_one_of_ours_is_told_once(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    queue.client.lpush(queue.keys.processing("").encode() + b"\xff", "x")
    queue.client.zadd(queue.keys.consumers, {b"\xff": 1})
    for _ in range(2):
        queue.reaper.adopt()
        queue.reaper.sweep()
    assert [record.getMessage() for record in caplog.records] == [
        r"No consumer is called b'\xff': what lies under this name is left alone."
    ]


def test_a_slow_sweep_through_a_large_database_is_made_of_many_small_steps(queue: Queue) -> None:
    """Idempotency keys are kept for a day: what looks at all of them at once keeps the dead waiting."""
    queue.client.mset({f"other-{number}": "x" for number in range(5_000)})
    for number in range(30):
        orphan(queue, f"lost{number}")
    steps = list(queue.reaper.adopting())
    assert len(steps) > 4
    assert sum(steps) == 30


def test_rounds_of_maintenance_share_a_slow_sweep_and_each_recovers_first(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "SCAN_COUNT", 10)  # some 500 steps
    queue.client.mset({f"other-{number}": "x" for number in range(5_000)})
    for number in range(30):
        orphan(queue, f"lost{number}")

    def scans() -> int:
        return int(queue.client.info("commandstats").get("cmdstat_scan", {"calls": 0})["calls"])

    class Watched(Reaper):
        def sweep(self) -> Sweep:
            before_sweeps.append(scans())
            return super().sweep()

    before_sweeps: list[int] = []
    before = scans()
    maintenance = Maintenance(Watched(queue.own_client, queue.config), queue.configured(sweep_ms=10).config)
    maintenance.start()
    wait_until(lambda: queue.client.zcard(queue.keys.consumers) == 30)
    maintenance.stop()
    maintenance.join(timeout=10)
    assert not maintenance.is_alive()
    assert before_sweeps[0] == before
    assert len(before_sweeps) > 2
    assert max(later - earlier for earlier, later in pairwise(before_sweeps)) == ADOPT_STEPS


def test_under_the_name_of_one_that_died_a_key_that_is_no_list_does_not_stop_the_sweeps(queue: Queue) -> None:
    queue.client.set(queue.keys.processing("foreign"), "x")
    queue.client.zadd(queue.keys.consumers, {"foreign": 1, "old": 2})
    orphan(queue)
    assert queue.reaper.adopt() == 1
    assert queue.client.zrange(queue.keys.consumers, 0, -1) == [b"foreign", b"lost"]
    queue.reaper.expire("lost")
    assert queue.reaper.sweep().recovered == 1


def test_a_foreign_key_that_is_no_list_does_not_stop_the_sweeps(queue: Queue) -> None:
    queue.client.set(queue.keys.processing("foreign"), "x")
    orphan(queue)
    queue.reaper.adopt()
    queue.reaper.expire("foreign")
    queue.reaper.expire("lost")
    assert queue.reaper.sweep().recovered == 1
