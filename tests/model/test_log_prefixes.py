"""Cut the log of a busy queue after any command, or within one: the server that loads it has each task in one place.

A script's effects are one transaction in the log, and a server loads all of it or nothing. The queue's own threads then
drain the loaded queue.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from support.queue_fixtures import Queue, ids
from support.waiting import wait_until
from zeroloss.invariants import INVARIANTS
from zeroloss.reference.queue import reaper
from zeroloss.reference.queue.consumer import Consumer
from zeroloss.reference.queue.consuming.settling import Claimed
from zeroloss.reference.queue.enqueuing.submission import Submission, due_in
from zeroloss.reference.queue.reaper import Reaper
from zeroloss.reference.queue.task import PRIORITIES, Task
from zeroloss.reference.worker.claimer import Claimer
from zeroloss.reference.worker.handlers import Handler
from zeroloss.reference.worker.process import HandlerThread, Maintenance

CONSUMERS = ("w1", "w2", "w3")
NEVER_MS = 3_600_000


class Mark(NamedTuple):
    """Size of the log after one verb, with its effects, and the tasks accepted and finished by then."""

    size: int
    accepted: frozenset[str]
    finished: frozenset[str]


class Recorder:
    """A queue in use; records the size of its log after each verb."""

    def __init__(self, queue: Queue, log: Path) -> None:
        self.queue, self._log = queue, log
        self.accepted: set[str] = set()
        self.finished: set[str] = set()
        self.marks: list[Mark] = []
        self.note()

    def note(self) -> None:
        self.marks.append(Mark(self._log.stat().st_size, frozenset(self.accepted), frozenset(self.finished)))

    def enqueue(self, *submissions: Submission) -> None:
        self.accepted |= {outcome.task_id for outcome in self.queue.enqueuer.enqueue_many(submissions)}  # type: ignore[union-attr]
        self.note()

    def noted(self, outcome: Any) -> Any:
        self.note()
        return outcome

    def settle(self, consumer: Consumer, done: list[Claimed], limit: int) -> list[Claimed]:
        claimed = consumer.settle([each.number for each in done], limit).claimed
        self.finished |= set(ids([each.entry for each in done]))
        return self.noted(claimed)


def busy(recorder: Recorder) -> None:
    """Call every writing verb of the queue at least once."""
    queue, noted = recorder.queue, recorder.noted
    recorder.enqueue(Submission("1.10"))
    recorder.enqueue(Submission("2", idempotency_key="k"))
    recorder.enqueue(Submission("2", idempotency_key="k"))
    recorder.enqueue(*[Submission(str(number)) for number in range(6)])
    recorder.enqueue(*[Submission("3", priority=priority) for priority in ("low", "high")])
    recorder.enqueue(Submission("4", due=due_in(NEVER_MS)), Submission("5"))
    first, second, third = (noted(queue.consumer(name)) for name in CONSUMERS)
    held = recorder.settle(first, [], 3)
    other = recorder.settle(second, [], 3)
    held = [*recorder.settle(first, held[:1], 1), *held[1:]]
    (waited,) = noted(third.claim_waiting(third.reserve(1), 1_000)).claimed
    assert noted(queue.reaper.recover(second.name, is_dead=True)) == len(other)  # in several scripts
    failed, given_up, given_back = (Task(each.entry, each.number) for each in held)
    noted(first.fail(failed, "ValueError: no"))
    noted(first.dead_letter(Claimed(given_up.number, given_up.entry), "Nobody knows it."))
    noted(first.release([given_back.number]))
    queue.make_due()
    assert noted(queue.reaper.promote()) == 2
    (letter,) = queue.dead_letters.find(given_up.id)
    assert noted(queue.dead_letters.requeue(letter.id)) == 1
    again = recorder.settle(first, [], 2)
    noted(first.dead_letter(again[0], "Nobody knows it."))
    recorder.settle(third, [waited], 1)
    assert not noted(third.leave()).left
    assert noted(queue.reaper.recover(third.name)) == 1
    second.renew()
    first_done, *others = recorder.settle(second, [], 3)
    departure = second.leave([first_done.number], [each.number for each in others])
    recorder.finished |= set(ids([first_done.entry]))
    assert noted(departure) == (True, [])


@pytest.mark.law("I1", "I2")
def test_a_log_cut_after_any_command_or_torn_within_it_holds_each_task_once_and_is_drained(
    open_own_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reaper, "MOVE_BATCH", 2)
    server = open_own_server("embedded", appendfsync="always")
    log = next(Path(server.data_dir).glob("appendonlydir/*.incr.aof"))
    with _queue_on(server) as queue:
        recorder = Recorder(queue, log)
        busy(recorder)
        text = log.read_bytes()
    ends = [*_command_ends(text)]
    assert {mark.size for mark in recorder.marks} <= {0, *ends}, "a verb ends where a command does"
    print(f"{len(ends)} cuts after a command, {len(ends) - 1} within one; {len(recorder.marks) - 1} verbs")
    silent: list[dict[str, Any]] = []
    for end, following in zip(ends, [*ends[1:], None], strict=True):
        whole = _load(server, log, text[:end])
        if following is not None:
            assert _load(server, log, text[: (end + following) // 2]) == whole
        before = [mark for mark in recorder.marks if mark.size <= end][-1]
        after = next(mark for mark in recorder.marks if mark.size >= end)
        with _queue_on(server) as queue:
            if _judge(queue, before, after) and whole not in silent:
                silent.append(whole)
            _drain(queue, before)
    assert len(silent) == 1, "only between the ring that ends a wait and its claim: a waiting worker waits in vain"


def _load(server: Any, log: Path, text: bytes) -> dict[str, Any]:
    """Restart the server with this log, and return all keys it has loaded."""
    server.kill()
    log.write_bytes(text)
    server.start()
    with _queue_on(server) as queue:
        return queue.everything()


def _judge(queue: Queue, before: Mark, after: Mark) -> bool:
    """Check that every task promised before is present once. Tasks finished by the verb at the cut may be absent.

    Every consumer that holds a task must be registered. Return whether the bell is silent although a task is pending.
    """
    places = {f"pending:{priority}": ids(queue.pending(priority)) for priority in PRIORITIES}
    waiting = any(places.values())
    places |= {"delayed": ids(queue.delayed()), "dead_letter": ids(queue.dead())}
    registered = {name.decode() for name in queue.client.zrange(queue.keys.consumers, 0, -1)}
    held = {name: ids(queue.held(name)) for name in CONSUMERS}
    assert {name for name in CONSUMERS if held[name]} <= registered
    assert waiting or not queue.rings()
    places |= held
    lying = {task for there in places.values() for task in there}
    finished = before.finished | (after.finished - lying)
    assert INVARIANTS["I1"].check(before.accepted, finished, places) == []
    assert lying <= after.accepted
    return waiting and not queue.rings()


def _drain(queue: Queue, before: Mark) -> None:
    """Drain the queue with a worker's threads, after the leases of all holders have ended."""
    executed: set[str] = set()
    handlers = {"default": Handler(lambda task: executed.add(task.id))}
    queue = queue.configured(sweep_ms=10, threads=1, lease_ms=9_000, renew_ms=3_000, block_ms=50)
    for name in CONSUMERS:
        queue.expire(name)
    queue.make_due()
    claimer = Claimer(queue.consumer("healthy"), queue.config, handlers)
    maintenance = Maintenance(Reaper(queue.own_client, queue.config), queue.config)
    threads = [maintenance, claimer, HandlerThread(1, claimer, handlers)]
    for thread in threads:
        thread.start()
    holding = [*queue.keys.lists, *(queue.keys.processing(name) for name in (*CONSUMERS, "healthy"))]
    wait_until(lambda: not queue.client.exists(*holding, queue.keys.delayed), message="it is not drained")
    maintenance.stop()
    claimer.stop()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
        claimer.ready.put(None)  # ends the handler's thread after the claimer
    assert before.accepted <= executed | before.finished | set(ids(queue.dead()))
    queue.own_client.close()


@contextmanager
def _queue_on(server: Any) -> Iterator[Queue]:
    with redis.Redis.from_url(server.url) as client:
        queue = Queue(client, server.url, backoff_ms=NEVER_MS, backoff_max_ms=NEVER_MS)
        yield queue
        queue.own_client.close()


def _command_ends(text: bytes) -> Iterator[int]:
    """Yield the end of each command in a log. https://redis.io/docs/latest/develop/reference/protocol-spec/"""
    position = 0
    while position < len(text):
        count, position = _number(text, position, b"*")
        for _ in range(count):
            length, position = _number(text, position, b"$")
            position += length + 2
        yield position


def _number(text: bytes, position: int, mark: bytes) -> tuple[int, int]:
    end = text.index(b"\r\n", position)
    assert text[position : position + 1] == mark
    return int(text[position + 1 : end]), end + 2
