"""The claimer, in this process, with a real server; only network errors are simulated."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from support.queue_fixtures import Queue, entry, ids, memory_full
from support.waiting import Result, wait_until
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.registry import NO_REPORT, Departure, Renewal, Report
from zeroloss.reference.queue.consuming.settling import Claimed, Settlement
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.errors import LeaseLost
from zeroloss.reference.queue.task import Task
from zeroloss.reference.worker import claimer as claimers
from zeroloss.reference.worker.claimer import REFUSED_MAX, Claimer
from zeroloss.reference.worker.delivery import Delivery, State

LOST = pytest.mark.parametrize("executed", [False, True], ids=["on the way", "on the way back"])


class Observed(Consumer):
    """Records its steps. The first step named `cut` is lost on the way, or, if `executed`, only its reply is."""

    def __init__(self, queue: Queue, *, name: str = "w1", cut: str = "", executed: bool = False) -> None:
        super().__init__(queue.own_client, queue.config, name)
        self.cut, self.executed = cut, executed
        self.steps: Counter[str] = Counter()
        self.arrived = 0
        self.lost: list[Claimed] = []  # tasks claimed by a command whose reply was lost
        self.settled: list[tuple[int, int]] = []  # numbers of acked tasks, and limits of the claims
        self.left: list[tuple[int, int]] = []  # numbers of tasks acked and given back on leaving

    def _step(self, name: str, step: Callable[[], Result]) -> Result:
        self.steps[name] += 1
        if self.cut != name:
            return step()
        self.cut = ""
        if self.executed:
            done = step()
            self.lost = done.claimed if isinstance(done, Settlement) else []
        raise redis.ConnectionError(f"the {name} was cut off")

    def held(self) -> list[int]:
        return self._step("look", super().held)

    def claim_waiting(self, number: int, timeout_ms: int) -> Settlement:
        settlement = self._step("wait", partial(super().claim_waiting, number, timeout_ms))
        self.arrived += len(settlement.claimed)
        return settlement

    def settle(self, done: Sequence[int], limit: int) -> Settlement:
        settlement = self._step("settle", partial(super().settle, done, limit))
        self.settled.append((len(done), limit))
        return settlement

    def fail(self, task: Task, error: str, *rest: Any) -> bool:
        return self._step("fail", partial(super().fail, task, error, *rest))

    def dead_letter(self, claimed: Claimed, error: str, **rest: Any) -> None:
        self._step("give up", partial(super().dead_letter, claimed, error, **rest))

    def release(self, numbers: Iterable[int]) -> int:
        return self._step("release", partial(super().release, list(numbers)))

    def others_idle(self) -> bool:
        return self._step("ask", super().others_idle)

    def leave(self, done: Iterable[int] = (), unbegun: Iterable[int] = ()) -> Departure:
        self.left.append((len(list(done)), len(list(unbegun))))
        return self._step("leave", partial(super().leave, done, unbegun))


def begun(claimer: Claimer) -> Delivery:
    delivery = claimer.ready.get(timeout=10)
    assert delivery is not None
    delivery.started = 0.0  # long ago, so the task counts as slow
    return delivery


def claimer_of(queue: Queue, consumer: Consumer | None = None) -> Claimer:
    return Claimer(consumer or Consumer(queue.own_client, queue.config, "w1"), queue.config, {"default": print})


def started(queue: Queue, consumer: Consumer | None = None) -> Claimer:
    claimer = claimer_of(queue, consumer)
    claimer.start()
    return claimer


@pytest.fixture(autouse=True)
def end_claimers() -> Iterator[None]:
    """End claimers that a failed test left running: they would take the tasks of later tests."""
    yield
    for thread in threading.enumerate():
        if isinstance(thread, Claimer):
            thread._consumer = None  # type: ignore[assignment]
            thread.join(30)


def killed_at_last(queue: Queue) -> int:
    """Kill the consumer; retry, because a live claimer may renew its lease before the recovery."""
    return wait_until(lambda: queue.kill(queue.consumer()))


def finish(claimer: Claimer, delivery: Delivery) -> None:
    delivery.seconds = 0.001
    claimer.inbox.put(delivery)


@LOST
def test_the_tasks_of_a_release_that_was_cut_off_are_given_back_once(queue: Queue, executed: bool) -> None:
    """One thread that is quick first and then slow, so tasks claimed ahead must be given back."""
    queue = queue.configured(threads=1, ahead=3, ahead_ms=20)
    consumer = Observed(queue, cut="release", executed=executed)
    enqueued = [*queue.enqueue(0), *queue.enqueue(*range(1, 5))]
    claimer = started(queue, consumer)
    first = begun(claimer)
    finish(claimer, first)  # tasks count as quick now: three are claimed ahead
    slow = begun(claimer)
    wait_until(lambda: not consumer.cut and ids(queue.pending()) == enqueued[2:], message="they are kept in hand")
    assert ids(queue.held()) == [slow.task.id]
    finish(claimer, slow)
    end(claimer, queue)


@LOST
def test_a_failure_that_could_not_be_reported_is_reported_once(queue: Queue, executed: bool) -> None:
    queue.enqueue("a")
    claimer = started(queue, Observed(queue, cut="fail", executed=executed))
    delivery = begun(claimer)
    delivery.error = "ValueError: no"
    finish(claimer, delivery)
    wait_until(lambda: not queue.held(), message="it is still held")
    end(claimer, queue)
    assert queue.counters() == {"enqueued": 1, "failed": 1, "retried": 1}


def test_a_task_claimed_with_a_lost_reply_is_the_next_work_long_before_the_renewal(
    queue: Queue,
) -> None:
    """The renewal would find it too, 20 s later, because more tasks are held than are in hand."""
    enqueued = queue.enqueue("a", "b")
    consumer = Observed(queue, cut="settle", executed=True)
    claimer = started(queue, consumer)
    first = begun(claimer)
    assert ids(consumer.lost)[0] == first.task.id == enqueued[0]
    finish(claimer, first)
    second = begun(claimer)
    assert second.task.id == enqueued[1]
    finish(claimer, second)
    end(claimer, queue)
    assert queue.counters() == {"enqueued": 2, "completed": 2}


def test_while_there_is_more_the_claimer_claims_until_its_room_is_full_and_does_not_look(
    queue: Queue,
) -> None:
    queue = queue.configured(threads=1, ahead=4, ahead_ms=60_000)
    queue.enqueue(*range(10))
    consumer = Observed(queue)
    claimer = started(queue, consumer)
    finish(claimer, begun(claimer))  # tasks count as quick from here on
    wait_until(lambda: len(queue.held()) == 5, message="it does not claim ahead, by halves")
    assert (consumer.steps["look"], consumer.steps["wait"]) == (1, 0)
    claimer.stop()
    finish(claimer, begun(claimer))
    end(claimer, queue)


def test_each_error_in_a_row_doubles_the_pause_up_to_its_maximum_and_chance_takes_up_to_half_of_it(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimers, "time", SimpleNamespace(monotonic=lambda: 100.0))
    for chance in (0.5, 1.0):
        claimer = claimer_of(queue)
        monkeypatch.setattr(claimers, "random", SimpleNamespace(uniform=partial(_between, chance)))
        pauses_s = []
        for _ in range(20):
            claimer._back_off(redis.ConnectionError("the connection is gone"))
            pauses_s.append(claimer._retry_at - 100.0)
        assert pauses_s == pytest.approx([chance * min(1.5, 0.1 * 2**number) for number in range(20)])


def _between(chance: float, low: float, high: float) -> float:
    assert (low, high) == (0.5, 1.0)
    return chance


@pytest.mark.parametrize(
    ("max_retries", "outcome"),
    [(1, "will be retried"), (0, "goes to the dead-letter list")],
    ids=["retried", "given up"],
)
def test_a_failed_task_is_logged_with_what_becomes_of_it_and_is_in_nobodys_hand_any_more(
    queue: Queue, caplog: pytest.LogCaptureFixture, max_retries: int, outcome: str
) -> None:
    """Otherwise the worker could not end before its next renewal, 20 s later, detects it."""
    queue = queue.configured(max_retries=max_retries)
    (task_id,) = queue.enqueue("a")
    claimer = started(queue)
    delivery = begun(claimer)
    delivery.error = "ValueError: no"
    finish(claimer, delivery)
    wait_until(lambda: not queue.held(), message="it is still held")
    end(claimer, queue)
    assert [len(queue.delayed()), len(queue.dead())] == [max_retries, 1 - max_retries]
    assert f"Task {task_id} of type default, attempt 1, {outcome}: ValueError: no" in caplog.messages


def test_the_id_and_the_type_of_a_task_neither_forge_nor_flood_the_log(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    """The producer refuses such names, but other clients may push them."""
    forged = "\n2026-01-01 INFO forged" * 10_000
    queue = queue.configured(threads=5, renew_ms=50, max_retries=0)
    for task_type in ("default", "default", "default", forged):
        queue.push(json.dumps({"id": forged, "type": task_type}).encode())
    claimer = started(queue)
    failing, lost, late = begun(claimer), begun(claimer), begun(claimer)
    failing.error = "no"
    finish(claimer, failing)
    wait_until(lambda: len(queue.dead()) == 2, message="they are not given up")
    killed_at_last(queue)
    wait_until(lambda: lost.state is State.ADRIFT, message="it does not look what it holds")
    finish(claimer, lost)
    for _ in range(2):
        finish(claimer, begun(claimer))
    finish(claimer, late)
    end(claimer, queue)
    assert len([line for line in caplog.messages if "forged" in line]) >= 3
    assert [line for line in caplog.messages if not line.isprintable() or len(line) > 2_500] == []
    reason = r"No handler is registered for type '\n2026-01-01 INFO forged"
    assert any(letter.error.startswith(reason) for letter in queue.dead_letters.page())
    assert str(LeaseLost("w1", forged)).isprintable()


def test_a_suspect_that_waits_to_run_alone_is_given_back_by_a_worker_that_is_asked_to_end(queue: Queue) -> None:
    queue = queue.configured(threads=2, isolate_after=1)
    queue.enqueue("slow")
    claimer = started(queue)
    slow = begun(claimer)
    queue.push(entry("suspect", recoveries=1))
    wait_until(lambda: claimer._hand.alone, message="it is not in hand")
    claimer.stop()
    wait_until(lambda: ids(queue.pending()) == ["suspect"], message="it is kept in hand")
    assert claimer.ready.empty()
    assert queue.lease_left_ms() > 0, "what runs may be recovered"
    finish(claimer, slow)
    end(claimer, queue)


def wait_for_the_bell(queue: Queue) -> None:
    wait_until(lambda: queue.client.info("clients")["blocked_clients"] == 1, message="nobody waits")


def test_the_first_task_ends_the_wait_and_the_others_are_claimed_at_once(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    queue = queue.configured(threads=5)
    consumer = Observed(queue)
    claimer = started(queue, consumer)
    wait_for_the_bell(queue)
    queue.enqueuer.enqueue_many([Submission(payload_json="null")] * 5)
    deliveries = [begun(claimer) for _ in range(5)]
    assert consumer.arrived == 1
    assert caplog.messages == []
    for delivery in deliveries:
        finish(claimer, delivery)
    end(claimer, queue)


def test_a_wait_that_was_cut_off_is_logged_and_begun_again(queue: Queue, caplog: pytest.LogCaptureFixture) -> None:
    claimer = started(queue, Observed(queue, cut="wait"))
    wait_until(lambda: "Redis failed (the wait was cut off)" in caplog.text)
    wait_for_the_bell(queue)
    end(claimer, queue)


def test_a_task_whose_reply_is_on_its_way_while_the_claimer_looks_what_it_holds_is_begun_once(queue: Queue) -> None:
    """It is held under the number in flight, which only the reply may add: otherwise it would run twice."""
    on_the_way, arrive = threading.Event(), threading.Event()

    class SlowReply(Observed):
        def claim_waiting(self, number: int, timeout_ms: int) -> Settlement:
            settlement = super().claim_waiting(number, timeout_ms)
            if settlement.claimed:
                on_the_way.set()
                assert arrive.wait(30)
            return settlement

    consumer = SlowReply(queue)
    claimer = started(queue, consumer)
    wait_for_the_bell(queue)
    (task_id,) = queue.enqueue("a")
    assert on_the_way.wait(30)
    looks = consumer.steps["look"]
    claimer._unsure = True
    claimer.inbox.put(None)
    wait_until(lambda: consumer.steps["look"] > looks, message="it does not look what it holds")
    one_more_turn(claimer)
    assert claimer.ready.empty()
    arrive.set()
    delivery = begun(claimer)
    assert delivery.task.id == task_id
    one_more_turn(claimer)
    assert claimer.ready.empty()
    finish(claimer, delivery)
    end(claimer, queue)
    assert queue.counters() == {"enqueued": 1, "completed": 1}


def test_a_task_whose_wait_was_cut_off_after_it_was_claimed_is_the_next_work(queue: Queue) -> None:
    claimer = started(queue, Observed(queue, cut="wait", executed=True))
    wait_for_the_bell(queue)
    (task_id,) = queue.enqueue("a")
    delivery = begun(claimer)
    assert delivery.task.id == task_id
    finish(claimer, delivery)
    end(claimer, queue)
    assert queue.counters() == {"enqueued": 1, "completed": 1}


def one_more_turn(claimer: Claimer) -> None:
    """Wait until the claimer has read its inbox once more."""
    for _ in range(2):
        claimer.inbox.put(None)
        wait_until(claimer.inbox.empty)


def test_after_a_step_that_succeeds_the_pauses_begin_again(
    queue: Queue, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claimers, "random", SimpleNamespace(uniform=partial(_between, 1.0)))
    consumer = Observed(queue, cut="settle")
    claimer = started(queue, consumer)
    wait_for_the_bell(queue)
    consumer.cut = "settle"
    queue.enqueue("a")
    finish(claimer, begun(claimer))
    end(claimer, queue)
    assert caplog.messages == ["Redis failed (the settle was cut off); the next attempt is in 0.10 s."] * 2


def test_a_suspect_waits_for_all_that_runs_and_is_begun_once_and_then_the_others_have_their_turn(queue: Queue) -> None:
    queue = queue.configured(threads=3, isolate_after=1)
    queue.enqueue("quick", "slow")
    claimer = started(queue)
    quick, slow = begun(claimer), begun(claimer)
    queue.push(entry("suspect", recoveries=1))
    wait_until(lambda: claimer._hand.alone, message="it is not in hand")
    (other,) = queue.enqueue("other")
    finish(claimer, quick)
    wait_until(lambda: ids(queue.held()) == [slow.task.id, "suspect"], message="the first is not acked")
    assert claimer.ready.empty()
    finish(claimer, slow)
    suspect = begun(claimer)
    assert suspect.task.id == "suspect"
    one_more_turn(claimer)
    assert claimer.ready.empty()
    assert ids(queue.pending()) == [other]
    finish(claimer, suspect)
    last = begun(claimer)
    assert last.task.id == other
    finish(claimer, last)
    end(claimer, queue)


def test_a_suspect_that_waits_for_a_slow_task_is_left_to_a_worker_that_is_idle(queue: Queue) -> None:
    queue = queue.configured(threads=2, isolate_after=1)
    queue.enqueue("slow")
    busy = started(queue)
    slow = begun(busy)
    wait_until(lambda: busy._awaited, message="it does not wait for the bell")
    idle = started(queue, Observed(queue, name="w2"))
    wait_until(lambda: idle._awaited, message="it does not wait for the bell")
    for name in ("suspect", "another"):
        queue.push(entry(name, recoveries=1))  # the first waiting claimer hears the bell, mostly the busy one
        suspect = begun(idle)
        assert (suspect.task.id, suspect.task.recoveries) == (name, 1)
        finish(idle, suspect)
    assert busy.ready.empty()
    idle.stop()
    idle.join(30)
    finish(busy, slow)
    end(busy, queue)


@dataclass(kw_only=True)
class TwoBusy:
    """A claimer with a suspect that waits for a slow task, and another one whose only thread is busy."""

    claimer: Claimer
    consumer: Observed
    slow: Delivery
    other: Claimer
    others: Delivery


def two_busy(queue: Queue) -> TwoBusy:
    queue.enqueue("slow", "slow too")
    consumer = Observed(queue)
    claimer = started(queue, consumer)
    slow, slow_too = begun(claimer), begun(claimer)
    other = started(queue.configured(threads=1), Observed(queue, name="w2"))
    queue.enqueue("the other's")
    others = begun(other)
    finish(claimer, slow_too)
    queue.push(entry("suspect", recoveries=1))
    wait_until(lambda: consumer.steps["ask"] > 3, message="it does not look for an idle worker")
    return TwoBusy(claimer=claimer, consumer=consumer, slow=slow, other=other, others=others)


def test_a_suspect_is_kept_while_no_other_worker_is_idle_until_it_can_run(queue: Queue) -> None:
    queue = queue.configured(threads=2, isolate_after=1, renew_ms=300)
    both = two_busy(queue)
    assert both.claimer._hand.alone
    finish(both.claimer, both.slow)
    suspect = begun(both.claimer)
    assert (suspect.task.id, both.consumer.steps["release"]) == ("suspect", 0)
    finish(both.other, both.others)
    both.other.stop()
    both.other.join(30)
    finish(both.claimer, suspect)
    end(both.claimer, queue)


def test_a_suspect_that_was_kept_is_left_to_a_worker_that_becomes_idle(queue: Queue) -> None:
    queue = queue.configured(threads=2, isolate_after=1)
    both = two_busy(queue)
    finish(both.other, both.others)
    suspect = begun(both.other)
    assert (suspect.task.id, suspect.task.recoveries) == ("suspect", 1)
    finish(both.other, suspect)
    both.other.stop()
    both.other.join(30)
    finish(both.claimer, both.slow)
    end(both.claimer, queue)


def begun_suspect(claimer: Claimer, queue: Queue) -> Delivery:
    """Begin a suspect task, which runs alone."""
    queue.push(entry("suspect", recoveries=1))
    claimer.start()
    delivery = begun(claimer)
    assert (delivery.task.id, claimer._hand.alone) == ("suspect", delivery)
    return delivery


def test_a_suspect_still_runs_alone_when_the_list_was_read_again(queue: Queue) -> None:
    queue = queue.configured(threads=2, isolate_after=1)
    consumer = Observed(queue)
    claimer = claimer_of(queue, consumer)
    suspect = begun_suspect(claimer, queue)
    looks = consumer.steps["look"]
    claimer._unsure = True
    claimer.inbox.put(None)
    wait_until(lambda: consumer.steps["look"] > looks, message="it does not look what it holds")
    (other,) = queue.enqueue("other")
    one_more_turn(claimer)
    assert claimer.ready.empty()
    finish(claimer, suspect)
    last = begun(claimer)
    assert last.task.id == other
    finish(claimer, last)
    end(claimer, queue)


def test_a_suspect_that_was_recovered_while_it_ran_no_longer_keeps_the_others_out(queue: Queue) -> None:
    queue = queue.configured(threads=2, isolate_after=1, renew_ms=50)
    claimer = claimer_of(queue)
    suspect = begun_suspect(claimer, queue)
    assert killed_at_last(queue) == 1
    again = begun(claimer)
    assert (again.task.id, again.task.recoveries) == (suspect.task.id, 2)
    finish(claimer, again)
    end(claimer, queue)


def test_a_surplus_task_is_still_given_back_when_a_suspect_comes_in(queue: Queue) -> None:
    queue = queue.configured(isolate_after=1)
    claimer = claimer_of(queue)
    surplus = Delivery(Task(entry("surplus"), 1))
    claimer._hand.take(surplus)
    claimer._admit([Claimed(2, entry("suspect", recoveries=1))])
    assert claimer._surplus() == [surplus]


def test_a_task_whose_recoveries_were_before_its_requeue_is_not_a_suspect(queue: Queue) -> None:
    queue = queue.configured(threads=2, isolate_after=1)
    queue.push(entry("a", attempt=3), entry("b", attempt=3))
    claimer = started(queue)
    for delivery in [begun(claimer), begun(claimer)]:
        finish(claimer, delivery)
    end(claimer, queue)


def test_a_task_that_a_thread_would_not_begin_is_begun_once_the_list_was_read(queue: Queue) -> None:
    (task_id,) = queue.enqueue("a")
    claimer = started(queue)
    claimer.inbox.put(begun(claimer))  # returned unbegun: by this process's clock the lease had ended
    again = begun(claimer)
    assert again.task.id == task_id
    finish(claimer, again)
    end(claimer, queue)


def test_a_task_that_is_held_and_in_nobodys_hand_is_found_at_the_next_renewal(queue: Queue) -> None:
    """For example from a claim that was given up as lost, and that the server ran late."""
    queue = queue.configured(renew_ms=50)
    claimer = started(queue)
    wait_for_the_bell(queue)
    queue.enqueue("a")
    first = begun(claimer)
    queue.client.hset(queue.keys.processing("w1"), "4711", entry("stray"))
    stray = begun(claimer)
    assert stray.task.id == "stray"
    finish(claimer, first)
    finish(claimer, stray)
    end(claimer, queue)


def test_a_task_that_comes_while_the_worker_is_leaving_is_given_back(queue: Queue) -> None:
    """For example from a claim that the server ran late, after it was given up as lost."""
    claimer = started(queue)
    wait_for_the_bell(queue)
    queue.client.hset(queue.keys.processing("w1"), "4711", entry("late"))
    end(claimer, queue)
    assert ids(queue.pending()) == ["late"]


def test_a_worker_that_leaves_does_not_wait_until_its_wait_for_the_bell_is_over(queue: Queue) -> None:
    queue = queue.configured(block_ms=600_000)
    claimer = started(queue)
    wait_for_the_bell(queue)
    leave(claimer, queue)
    assert queue.client.info("clients")["blocked_clients"] == 1
    queue.enqueue("a")
    wait_until(lambda: queue.client.info("clients")["blocked_clients"] == 0, message="it still waits")
    assert (len(queue.pending()), queue.held(), queue.rings()) == (1, [], True)


def test_a_task_that_nobody_here_can_run_is_given_up_and_the_next_is_begun(queue: Queue) -> None:
    queue.push(b"\xff no task", b'{"id":"a","type":"unheard","payload":1}')
    (task_id,) = queue.enqueue("b")
    claimer = started(queue)
    delivery = begun(claimer)
    assert delivery.task.id == task_id
    unheard, broken = queue.dead_letters.page()
    assert (broken.entry, broken.task) == (b"\xff no task", None)
    assert broken.error == "It cannot be read: its header cannot be read."
    assert (unheard.task.id, unheard.error) == ("a", "No handler is registered for type 'unheard'.")
    finish(claimer, delivery)
    end(claimer, queue)


def refusing_letters(queue: Queue) -> Queue:
    """Return the queue without retries, with a dead-letter key of another type: Redis refuses each letter."""
    queue.client.set(queue.keys.dead_letter, "another type")
    return queue.configured(threads=2, max_retries=0, renew_ms=200)


def accept_letters(queue: Queue, count: int) -> None:
    queue.client.delete(queue.keys.dead_letter)
    wait_until(lambda: queue.client.xlen(queue.keys.dead_letter) == count, message="they are not dead-lettered")


def test_a_failure_that_redis_refuses_to_store_keeps_no_other_task_back_and_is_stored_later(queue: Queue) -> None:
    queue = refusing_letters(queue)
    failed_id, *others = queue.enqueue(*range(11))
    claimer = started(queue)
    for _ in range(11):
        delivery = begun(claimer)
        delivery.error = "ValueError: no" if delivery.task.id == failed_id else None
        finish(claimer, delivery)
    wait_until(lambda: queue.counters().get("completed") == len(others), message="the others are not acked")
    assert ids(queue.held()) == [failed_id]
    accept_letters(queue, 1)
    end(claimer, queue)


def test_an_entry_that_redis_refuses_to_dead_letter_keeps_no_other_task_back_and_is_tried_again(queue: Queue) -> None:
    queue = refusing_letters(queue)
    queue.push(b"\xff no task", b'{"id":"a","type":"unheard","payload":1}', b"")
    (task_id,) = queue.enqueue("b")
    claimer = started(queue, Observed(queue, cut="settle", executed=True))  # so they are read from the hash as well
    delivery = begun(claimer)
    assert delivery.task.id == task_id
    finish(claimer, delivery)
    wait_until(lambda: queue.counters().get("completed") == 1, message="the other one is not acked")
    assert len(queue.held()) == 3
    accept_letters(queue, 3)
    end(claimer, queue)


def test_a_worker_claims_no_more_while_redis_refuses_a_hundred_outcomes(queue: Queue) -> None:
    queue = refusing_letters(queue)
    queue.push(*(b"no task %d" % number for number in range(300)))
    claimer = started(queue)
    wait_until(lambda: len(queue.held()) >= REFUSED_MAX, message="they are not claimed")
    renewed = claimer.lease_until
    wait_until(lambda: claimer.lease_until > renewed + 0.4, message="it does not renew")
    assert REFUSED_MAX <= len(queue.held()) < REFUSED_MAX + queue.config.threads
    accept_letters(queue, 300)
    end(claimer, queue)


def test_a_worker_leaves_the_tasks_whose_outcome_redis_refuses_to_recovery_and_repeats_no_other(queue: Queue) -> None:
    queue = refusing_letters(queue)
    queue.push(b"no task")
    failed_id, _ = queue.enqueue("a", "b")
    claimer = started(queue)
    for _ in range(2):
        delivery = begun(claimer)
        delivery.error = "ValueError: no" if delivery.task.id == failed_id else None
        finish(claimer, delivery)
    claimer.stop()
    wait_until(lambda: not claimer.is_alive(), message="it does not end")
    assert claimer.left
    assert queue.counters()["completed"] == 1
    queue.client.delete(queue.keys.dead_letter)
    queue.reaper.sweep()
    assert ids(queue.pending()) == [failed_id]
    assert queue.dead() == [b"no task"]


def test_a_task_recovered_before_it_was_begun_is_dropped_and_its_next_delivery_begun(queue: Queue) -> None:
    queue = queue.configured(threads=2, renew_ms=50)  # with two tasks in hand the claimer does not wait for a third
    enqueued = queue.enqueue("a", "b")
    claimer = started(queue)
    running = begun(claimer)
    wait_until(lambda: len(queue.held()) == 2)
    assert killed_at_last(queue) == 2
    wait_until(lambda: running.state is State.ADRIFT, message="it does not look what it holds")
    dropped = claimer.ready.get(timeout=10)
    assert dropped.task.id == enqueued[1]
    wait_until(lambda: dropped.state is State.ADRIFT, message="it was not recovered")  # shortly after the other
    claimer.inbox.put(dropped)  # returned unbegun, as by a handler thread
    finish(claimer, running)  # its result is ignored
    for task_id in enqueued:
        again = begun(claimer)
        assert (again.task.id, again.task.attempt, again.state) == (task_id, 2, State.OUT)
        finish(claimer, again)
    end(claimer, queue)
    assert queue.counters() == {"enqueued": 2, "recovered": 2, "completed": 2}


def test_for_a_thread_that_still_runs_what_was_recovered_nothing_is_claimed(queue: Queue) -> None:
    queue = queue.configured(threads=1, renew_ms=50)
    queue.enqueue("a")
    claimer = started(queue)
    stale = begun(claimer)
    assert killed_at_last(queue) == 1
    wait_until(lambda: stale.state is State.ADRIFT, message="it does not look what it holds")
    (other,) = queue.enqueue("b")
    for _ in range(3):
        one_more_turn(claimer)
    assert (queue.held(), claimer._awaited, ids(queue.pending())) == ([], None, [stale.task.id, other])
    finish(claimer, stale)
    for task_id in (stale.task.id, other):
        delivery = begun(claimer)
        assert delivery.task.id == task_id
        finish(claimer, delivery)
    end(claimer, queue)


def begun_just_now(claimer: Claimer) -> Delivery:
    delivery = begun(claimer)
    delivery.started = time.monotonic() + 3_600  # prevents the task from becoming slow
    return delivery


def test_a_task_behind_a_run_that_counts_no_more_is_given_back_too(queue: Queue) -> None:
    """One thread still runs a recovered task, and the other one runs a slow task."""
    queue = queue.configured(threads=2, ahead=3, ahead_ms=20, renew_ms=50)
    queue.enqueue("quick")
    claimer = started(queue)
    finish(claimer, begun(claimer))  # tasks count as quick: three are claimed ahead
    enqueued = queue.enqueue("a", "b")
    stale, finished = begun_just_now(claimer), begun_just_now(claimer)
    assert killed_at_last(queue) == 2
    wait_until(lambda: not claimer._hand.owned(), message="it does not look what it holds")
    enqueued += queue.enqueue("c", "d")
    finish(claimer, finished)
    slow = begun_just_now(claimer)
    wait_until(lambda: ids(queue.held()) == enqueued, message="nothing is claimed ahead")
    stale.started = slow.started = 0.0
    wait_until(lambda: ids(queue.held()) == enqueued[:1], message="it is kept in hand")
    assert ids(queue.pending()) == enqueued[1:]
    finish(claimer, stale)
    finish(claimer, slow)
    end(claimer, queue)


def test_of_two_threads_one_that_runs_what_was_recovered_leaves_room_for_one_task(queue: Queue) -> None:
    queue = queue.configured(threads=2, ahead=0, renew_ms=50)
    enqueued = queue.enqueue("a", "b")
    claimer = started(queue)
    stale, other = begun_just_now(claimer), begun_just_now(claimer)
    assert killed_at_last(queue) == 2
    wait_until(lambda: not claimer._hand.owned(), message="it does not look what it holds")
    finish(claimer, other)
    again = begun_just_now(claimer)
    for _ in range(3):
        one_more_turn(claimer)
    assert (ids(queue.held()), ids(queue.pending())) == (enqueued[:1], enqueued[1:])
    finish(claimer, stale)
    for delivery in (again, begun(claimer)):
        finish(claimer, delivery)
    end(claimer, queue)


def slow_with_one_behind_it(queue: Queue, claimer: Claimer) -> tuple[Delivery, list[str]]:
    """Return a slow task of the only thread, and two ids: of the slow task, and of a task claimed ahead."""
    queue.enqueue("quick")
    finish(claimer, begun(claimer))
    outcomes = queue.enqueuer.enqueue_many([Submission(payload_json=text) for text in ('"slow"', '"behind"')])
    slow = begun_just_now(claimer)
    wait_until(lambda: len(queue.held()) == 2, message="nothing is claimed ahead")
    return slow, [outcome.task_id for outcome in outcomes]


def runs_both_again_and_is_free(queue: Queue, claimer: Claimer, enqueued: list[str]) -> None:
    for task_id in enqueued:
        delivery = begun(claimer)
        assert (delivery.task.id, delivery.task.attempt) == (task_id, 2)
        finish(claimer, delivery)
    wait_for_the_bell(queue)  # happens only with a free thread
    end(claimer, queue)


def test_a_task_recovered_before_it_was_given_back_takes_nobodys_place(queue: Queue) -> None:
    queue = queue.configured(threads=1, ahead=1, ahead_ms=20, renew_ms=50)
    consumer = Observed(queue, cut="release")
    claimer = started(queue, consumer)
    slow, enqueued = slow_with_one_behind_it(queue, claimer)
    back_off = claimer._back_off

    def killed_meanwhile(error: redis.RedisError) -> None:
        assert queue.kill(consumer) == 2
        back_off(error)

    claimer._back_off = killed_meanwhile  # type: ignore[method-assign]
    slow.started = 0.0
    wait_until(lambda: consumer.steps["release"], message="it is kept in hand")
    wait_until(lambda: slow.state is State.ADRIFT, message="it does not look what it holds")
    finish(claimer, slow)
    runs_both_again_and_is_free(queue, claimer, enqueued)


def test_a_task_recovered_while_it_waited_behind_a_slow_one_takes_nobodys_place(queue: Queue) -> None:
    queue = queue.configured(threads=1, ahead=1, ahead_ms=20, renew_ms=50)
    claimer = started(queue)
    slow, enqueued = slow_with_one_behind_it(queue, claimer)
    assert killed_at_last(queue) == 2
    wait_until(lambda: not claimer._hand.owned(), message="it does not look what it holds")
    slow.started = 0.0
    wait_until(claimer.ready.empty, message="what waits behind it is not withdrawn")
    finish(claimer, slow)
    runs_both_again_and_is_free(queue, claimer, enqueued)


def test_an_error_while_what_has_arrived_is_given_up_ends_no_claimer(queue: Queue) -> None:
    claimer = started(queue, Observed(queue, cut="give up"))
    wait_for_the_bell(queue)
    queue.enqueuer.enqueue(Submission(payload_json="1", task_type="unheard"))
    wait_until(queue.dead, message="it is not given up")
    (task_id,) = queue.enqueue("b")
    delivery = begun(claimer)
    assert delivery.task.id == task_id
    finish(claimer, delivery)
    end(claimer, queue)


def test_with_memory_full_what_comes_back_is_claimed(queue: Queue) -> None:
    task = queue.dead_lettered("a")
    claimer = started(queue)
    wait_for_the_bell(queue)
    with memory_full(queue):
        assert queue.dead_letters.requeue_all() == 1
        delivery = begun(claimer)
        assert delivery.task.id == task.id
        finish(claimer, delivery)
        leave(claimer, queue)
    end(claimer, queue)


def test_a_claimer_whose_waiter_has_died_ends_and_is_seen_to(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would wait forever and renew its lease."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    queue = queue.configured(renew_ms=50)
    consumer = Observed(queue)
    monkeypatch.setattr(consumer, "claim_waiting", lambda *_: (_ for _ in ()).throw(MemoryError))
    claimer = started(queue, consumer)
    wait_until(lambda: not claimer.is_alive(), message="it lives")
    assert not claimer.left


def test_a_renewal_that_is_due_does_not_wait_until_many_failures_are_reported(queue: Queue) -> None:
    class Slow(Consumer):
        def fail(self, task: Task, error: str, *rest: Any) -> bool:
            steps.append("fail")
            claimer._renew_at = 0.0  # as if the step had taken that long
            return super().fail(task, error, *rest)

        def renew(self, report: Report = NO_REPORT) -> Renewal:
            steps.append("renew")
            return super().renew(report)

    steps: list[str] = []
    queue = queue.configured(threads=5)
    queue.enqueue(*range(5))
    claimer = started(queue, Slow(queue.own_client, queue.config, "w1"))
    for delivery in [begun(claimer) for _ in range(5)]:
        delivery.error = "ValueError: no"
        finish(claimer, delivery)
    wait_until(lambda: len(queue.delayed()) == 5, message="they are not told")
    assert "fail fail" not in " ".join(steps)
    end(claimer, queue)


def test_a_worker_leaves_once_and_with_the_ack_of_its_last_task(queue: Queue) -> None:
    queue.enqueue("a")
    consumer = Observed(queue)
    claimer = started(queue, consumer)
    delivery = begun(claimer)
    claimer.stop()
    wait_until(lambda: claimer._awaited is None)
    one_more_turn(claimer)
    assert consumer.left == []
    finish(claimer, delivery)
    end(claimer, queue)
    assert consumer.left == [(1, 0)]
    assert queue.counters()["completed"] == 1


def test_a_worker_that_leaves_acks_gives_back_and_is_off_the_registry_by_one_command(queue: Queue) -> None:
    consumer = Observed(queue)
    claimer, enqueued = with_one_done_and_two_unbegun(queue, consumer)
    claimer.turn()
    assert claimer.left
    assert consumer.left == [(1, 2)]
    assert sum(consumer.steps[name] for name in ("settle", "release", "leave")) == 2, "beside the claim"
    assert ids(queue.pending()) == enqueued[1:]
    assert queue.counters()["completed"] == 1
    assert queue.client.zcard(queue.keys.consumers) == 0


@LOST
def test_a_departure_that_is_cut_off_acks_once_and_gives_back_once(queue: Queue, executed: bool) -> None:
    consumer = Observed(queue, cut="leave", executed=executed)
    claimer, enqueued = with_one_done_and_two_unbegun(queue, consumer)
    with pytest.raises(redis.ConnectionError) as cut:
        claimer.turn()
    claimer._back_off(cut.value)
    claimer.turn()
    assert claimer.left
    assert consumer.left == [(1, 2), (0, 0) if executed else (1, 2)]
    assert ids(queue.pending()) == enqueued[1:]
    assert queue.counters()["completed"] == 1


def with_one_done_and_two_unbegun(queue: Queue, consumer: Consumer) -> tuple[Claimer, list[str]]:
    """Return a claimer that is asked to end, and the ids. The test runs its turns."""
    enqueued = queue.enqueue("a", "b", "c")
    claimer = claimer_of(queue.configured(threads=3), consumer)
    claimer.turn()
    finish(claimer, begun(claimer))
    claimer.stop()
    claimer._receive()
    return claimer, enqueued


def test_an_acked_task_makes_room_for_a_claim_in_the_same_step(queue: Queue) -> None:
    queue = queue.configured(threads=1, ahead=0)
    queue.enqueue("a", "b", "c")
    consumer = Observed(queue)
    claimer = started(queue, consumer)
    for _ in range(3):
        finish(claimer, begun(claimer))
    end(claimer, queue)
    assert consumer.settled[:3] == [(0, 1), (1, 1), (1, 1)]


def test_a_claimer_whose_thread_is_busy_does_not_wait_and_looks_again_when_it_is_free(queue: Queue) -> None:
    queue = queue.configured(threads=1, ahead=3)
    queue.enqueue("a", "b")
    consumer = Observed(queue)
    claimer = started(queue, consumer)
    finish(claimer, begun(claimer))  # tasks count as quick: the next claim asks for more than there is
    second = begun(claimer)
    wait_until(lambda: claimer._dry)
    one_more_turn(claimer)
    assert claimer._awaited is None, "it would claim a task for nobody"
    queue.enqueue("c")
    finish(claimer, second)
    finish(claimer, begun(claimer))
    end(claimer, queue)
    assert consumer.arrived == 0


def test_by_its_own_clock_a_lease_lasts_from_before_its_renewal_was_sent(queue: Queue) -> None:
    claimer = claimer_of(queue)
    before_s = time.monotonic()
    claimer._renew()
    after_s = time.monotonic()
    lease_s = queue.config.lease_ms / 1000
    assert before_s + lease_s <= claimer.lease_until <= after_s + lease_s


def test_a_claimer_with_something_to_do_does_not_sleep(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimers, "time", SimpleNamespace(monotonic=lambda: 100.0))

    def patience_s(*in_hand: Delivery, **state: object) -> float:
        claimer = claimer_of(queue)
        for delivery in in_hand:
            claimer._hand.take(delivery)
        quiet = {"_unsure": False, "_awaited": 7, "_renew_at": 107.0}
        vars(claimer).update(quiet | state)
        return claimer._patience_s()

    assert patience_s() == 7.0
    assert patience_s(_renew_at=99.0) == 0.0
    assert patience_s(_retry_at=103.0, _unsure=True) == 3.0
    assert patience_s(_unsure=True) == 0.0
    for state, s in ((State.DONE, 0.0), (State.FAILED, 0.0), (State.HELD, 0.0), (State.OUT, 7.0), (State.ADRIFT, 7.0)):
        delivery = Delivery(Task(entry(), 1))
        delivery.state = state
        assert patience_s(delivery) == s
    for dry in (True, False):
        assert patience_s(_awaited=None, _dry=dry) == 0.0


def test_with_work_that_waits_a_claimer_looks_before_it_hoards(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claimers, "time", SimpleNamespace(monotonic=lambda: 100.0))
    claimer = claimer_of(queue)
    claimer._unsure, claimer._awaited = False, 7
    claimer.ready.put(None)
    hoarding_s = claimer._pace.hoarding_s
    for renew_at, patience_s in ((107.0, hoarding_s), (100.0 + hoarding_s / 2, hoarding_s / 2), (99.0, 0.0)):
        claimer._renew_at = renew_at
        assert claimer._patience_s() == pytest.approx(patience_s)


def leave(claimer: Claimer, queue: Queue) -> None:
    claimer.stop()
    run_out: Callable[[], bool] = lambda: not claimer.is_alive()  # noqa: E731
    wait_until(run_out, message="it does not end")
    assert queue.client.zcard(queue.keys.consumers) == 0


def end(claimer: Claimer, queue: Queue) -> None:
    """Let the claimer leave, and ring to end its wait: the next test's consumer has the same name."""
    leave(claimer, queue)
    queue.client.lpush(queue.keys.bell, "1")
    claimer._waiter.join(30)
