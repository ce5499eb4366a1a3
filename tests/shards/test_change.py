"""Changing the number of shards while producers and workers run: no task is lost, and a key stays one task."""

import dataclasses
import itertools
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest
from support.processes.over_http import served
from support.processes.worker_process import Pool
from support.queue_fixtures import Queue as Seen
from support.queue_fixtures import entry
from support.waiting import wait_until
from zeroloss.reference.__main__ import main
from zeroloss.reference.queue.client import NewTask, Queue
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission
from zeroloss.reference.queue.errors import IdempotencyConflict, NotAccepted, OtherProtocol, QueueError
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.shards.balance import Balance
from zeroloss.reference.shards.change import Change
from zeroloss.reference.shards.layout import shard_of
from zeroloss.reference.shards.members import refuse_at_start
from zeroloss.reference.shards.spread import Spread

NAMES = [f"{{tasks-{number}}}" for number in range(4)]
REPEATED_S = 1.5  # longest delay of a key's repetition, below the time for which keys are kept
SHORT_MS = 1_500  # lifetime of keys in tests that wait for their expiry


@pytest.fixture
def config(queue: Seen) -> Config:
    return dataclasses.replace(queue.config, shards=2)


def lengths(queue: Seen) -> list[int]:
    return [queue.client.llen(Keys(name).pending) for name in NAMES]


def key_that_moves(before: int, now: int) -> str:
    return next(key for key in map(str, range(1_000)) if shard_of(key, before) != shard_of(key, now))


def keyed(key: str, payload: str = "1") -> Submission:
    return Submission(payload, idempotency_key=key)


@contextmanager
def spread_of(config: Config) -> Iterator[Spread]:
    spread = Spread(config)
    yield spread
    spread.close()


def over(config: Config) -> None:
    """Wait until the keys from before the change have expired."""
    wait_until(lambda: Change(config).state().remembers_s <= 0, 10, "keys are remembered for longer than they are kept")


def test_a_producer_spreads_over_more_shards_as_soon_as_they_are_noted(queue: Seen, config: Config) -> None:
    with spread_of(config) as spread:
        for _ in range(4):
            spread.enqueue(Submission("1"))
        assert Change(config).to(4).layout.count == 4
        for _ in range(8):
            spread.enqueue(Submission("1"))
    assert lengths(queue) == [4, 4, 2, 2]


def test_a_shard_that_is_drained_gets_no_new_task_from_a_producer_that_has_not_heard_of_it(
    queue: Seen, config: Config
) -> None:
    config = dataclasses.replace(config, shards=3)
    with spread_of(config) as spread:
        spread.enqueue(Submission("1"))
        Change(config).to(2)
        queue.client.delete(*[Keys(name).pending for name in NAMES])
        spread.enqueue_many([Submission("1")] * 400)
    assert lengths(queue) == [200, 200, 0, 0]


@pytest.mark.parametrize(("before", "now"), [(2, 3), (3, 2)])
def test_a_key_of_before_is_answered_by_the_task_of_before_while_it_is_remembered(
    queue: Seen, config: Config, before: int, now: int
) -> None:
    config = dataclasses.replace(config, shards=before)
    keys = [str(number) for number in range(40)]
    with spread_of(config) as old:
        first = {key: old.enqueue(keyed(key)).task_id for key in keys}
        Change(config).to(now)
        for spread in (old, Spread(dataclasses.replace(config, shards=now))):
            batch = spread.enqueue_many([keyed(key) for key in keys])
            assert batch == [Accepted(first[key], replayed=True) for key in keys]
            with pytest.raises(IdempotencyConflict):
                spread.enqueue(keyed(keys[0], "2"))
            spread.close()
    assert sum(lengths(queue)) == 40


def test_a_new_key_is_one_task_whichever_number_its_producer_knows(queue: Seen, config: Config) -> None:
    key = key_that_moves(2, 3)
    with spread_of(config) as late, spread_of(config) as early:
        late.enqueue(Submission("0"))
        Change(config).to(3)
        accepted = early.enqueue(keyed(key))
        assert late.enqueue(keyed(key)) == Accepted(accepted.task_id, replayed=True)
    assert queue.client.exists(Keys(NAMES[shard_of(key, 3)]).idempotency(key))


def test_a_key_of_before_gets_a_definite_no_while_its_shard_of_before_does_not_say_whether_it_knows_it(
    queue: Seen, config: Config
) -> None:
    key = key_that_moves(2, 3)
    with spread_of(config) as spread:
        Change(config).to(3)
        queue.client.lpush(Keys(NAMES[shard_of(key, 2)]).idempotency(key), "no string")
        with pytest.raises(NotAccepted):
            spread.enqueue(keyed(key))
        queue.client.delete(Keys(NAMES[shard_of(key, 2)]).idempotency(key))
        assert spread.enqueue(keyed(key))


def test_keys_are_not_looked_up_at_the_shard_of_before_once_that_has_forgotten_them(
    queue: Seen, config: Config
) -> None:
    config = dataclasses.replace(config, idempotency_ttl_ms=SHORT_MS)
    key = key_that_moves(2, 3)
    with spread_of(config) as spread:
        spread.enqueue(keyed(key))
        Change(config).to(3)
        assert spread.enqueue(keyed(key)).replayed
        assert not spread.splits_at_once([keyed(key)])
        over(config)
        wait_until(lambda: spread.splits_at_once([keyed(key)]), 5)
        assert not spread.enqueue(keyed(key)).replayed


def test_the_number_cannot_be_changed_again_before_the_last_change_is_over(queue: Seen, config: Config) -> None:
    Change(config).to(3)
    with pytest.raises(QueueError, match=r"changed from 2 to 3, and earlier idempotency keys are kept for \d+ s more"):
        Change(config).to(4)
    assert Change(config).to(3).layout.count == 3  # repeating the same change succeeds


def test_a_drained_shard_that_still_holds_something_is_not_forgotten(queue: Seen, config: Config) -> None:
    config = dataclasses.replace(config, shards=4, idempotency_ttl_ms=1)
    queue.configured(namespace=NAMES[3]).push(entry("waits"))
    assert Change(config).to(3).drained == {NAMES[3]: 1}
    with pytest.raises(QueueError, match=r"\{tasks-3\} still holds 1 tasks"):
        Change(config).to(2)
    queue.client.delete(Keys(NAMES[3]).pending)
    over(config)
    assert Change(dataclasses.replace(config, shards=3)).to(2).drained == {NAMES[2]: 0}


@pytest.mark.parametrize(("count", "sentence"), [(1, "from 2 to 256"), (257, "from 2 to 256")])
def test_an_invalid_number_is_refused(config: Config, count: int, sentence: str) -> None:
    with pytest.raises(QueueError, match=sentence):
        Change(config).to(count)


def test_a_process_starts_with_the_number_of_before_or_of_now_and_with_no_other(queue: Seen, config: Config) -> None:
    Change(config).to(3)
    for count in (2, 3):
        refuse_at_start(dataclasses.replace(config, shards=count))
    with pytest.raises(OtherProtocol, match="is one of 3, not of 4"):
        refuse_at_start(dataclasses.replace(config, shards=4))
    with spread_of(dataclasses.replace(config, shards=4)) as spread, pytest.raises(NotAccepted, match="not of 4"):
        spread.enqueue(Submission("1"))


def test_a_change_that_stopped_halfway_is_completed_by_a_process_that_sees_it(queue: Seen, config: Config) -> None:
    with spread_of(config) as spread:
        spread.enqueue(Submission("1"))
        Change(config).to(3)
        noted = queue.client.get(f"{NAMES[0]}:shards")
        queue.client.set(f"{NAMES[1]}:shards", "2 2 0 1")
        queue.client.delete(f"{NAMES[2]}:shards")
        for _ in range(6):
            spread.enqueue(Submission("1"))
    notes = {queue.client.get(f"{name}:shards").rpartition(b" ")[0] for name in NAMES[:3]}
    assert notes == {noted.rpartition(b" ")[0]}


def test_of_two_changes_at_once_one_is_refused_and_all_shards_note_the_other(queue: Seen, config: Config) -> None:
    def change(count: int) -> int:
        try:
            return Change(config).to(count).layout.count
        except QueueError:
            return 0

    Change(config).state()
    with ThreadPoolExecutor(2) as threads:
        made = list(threads.map(change, [3, 4]))
    count = Change(dataclasses.replace(config, shards=max(made))).state().layout.count
    assert max(made) == count
    assert {queue.client.get(f"{name}:shards").split()[0] for name in NAMES[:count]} == {str(count).encode()}


def test_workers_attend_a_drained_shard_until_it_is_empty_and_not_longer(queue: Seen, config: Config) -> None:
    config = dataclasses.replace(config, shards=3)
    last = queue.configured(namespace=NAMES[2])
    last.push(entry("waits"))
    Change(config).to(2)
    balance = Balance(config)
    for name in NAMES[:2]:
        queue.configured(namespace=name).consumer(f"of {name}")
    assert balance.choose(NAMES[:2]).namespace == NAMES[2]
    assert balance.relocation([NAMES[2]]) is None
    last.claim(last.consumer("w"))
    assert balance.relocation([NAMES[2]]) == NAMES[2]
    assert balance.choose(NAMES[:2]).namespace != NAMES[2]


def test_the_queue_shows_and_pauses_shards_that_came_later_and_those_that_are_drained(
    queue: Seen, config: Config
) -> None:
    with Queue.connect(config.redis_url, shards=2) as connected:
        connected.pause()
        Change(config).to(4)
        connected.enqueue_many([NewTask("a", number) for number in range(400)])
        queue.configured(namespace=NAMES[3]).dead_lettered()
        wait_until(lambda: connected.stats().pending == 400, 5)
        assert all(queue.client.exists(Keys(name).paused) for name in NAMES)
        assert [letter.id.partition("/")[0] for letter in connected.dead_letters.page()] == ["3"]
        over_config = dataclasses.replace(config, shards=4, idempotency_ttl_ms=1)
        Change(over_config).to(2)
        stats = connected.stats()
        assert list(stats.shards) == NAMES  # type: ignore[attr-defined]
        assert connected.dead_letters.requeue_all() == 1


def run_shards(config: Config, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zeroloss.reference", "shards", *arguments, "--redis", config.redis_url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_one_queue_has_no_number_of_shards_to_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shards"]) == 2
    assert "give the number of shards with --shards or ZEROLOSS_SHARDS." in capsys.readouterr().err


def test_the_command_shows_changes_and_refuses(config: Config) -> None:
    shown = run_shards(config, "3", "--shards", "2").stdout.splitlines()
    assert shown[0] == "shards: 3, before: 2"
    assert shown[1].startswith("earlier idempotency keys are looked up for 86")
    refused = run_shards(config, "4", "--shards", "3")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "changed from 2 to 3" in refused.stderr


class Client(threading.Thread):
    """Enqueues through a queue until `over` is set, each key several times."""

    def __init__(self, enqueue: Callable[[str, str | None], str | None], name: str) -> None:
        super().__init__(name=name)
        self._enqueue = enqueue
        self.promised: set[str] = set()
        self.by_key: dict[str, set[str]] = {}
        self.over = threading.Event()

    def run(self) -> None:
        begun: list[float] = []
        for number in itertools.count():
            if self.over.is_set():
                return
            self._one(None)
            begun.append(time.monotonic())
            for earlier in {number, max(0, number - 3), max(0, number - 40)}:
                if time.monotonic() - begun[earlier] < REPEATED_S:
                    self._one(f"{self.name}-{earlier}")

    def _one(self, key: str | None) -> None:
        if task_id := self._enqueue(self.name, key):
            self.promised.add(task_id)
            self.by_key.setdefault(key or task_id, set()).add(task_id)


def enqueued(queue: Seen, name: str) -> int:
    return int(queue.client.hget(Keys(name).counters, "enqueued") or 0)


def has_enqueued(queue: Seen, name: str, count: int) -> bool:
    return enqueued(queue, name) >= count


def directly(connected: Queue, payload: str, key: str | None) -> str | None:
    try:
        return connected.enqueue("note", payload, idempotency_key=key).task_id
    except NotAccepted:
        return None


def over_http(url: str, payload: str, key: str | None) -> str | None:
    headers = {"Content-Type": "application/json", **({"Idempotency-Key": key} if key else {})}
    body = json.dumps({"type": "note", "payload": payload}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/task", body, headers)) as answer:
            return str(json.load(answer)["task_id"])
    except urllib.error.HTTPError as error:
        assert json.load(error)["type"].endswith("not-accepted")
        return None


def test_no_task_is_lost_and_no_key_doubled_while_shards_are_added_and_drained_again(
    queue: Seen, config: Config, start_pool: Callable[..., Pool]
) -> None:
    """Each client repeats its keys for longer than the change takes, but not beyond their lifetime."""
    config = dataclasses.replace(config, idempotency_ttl_ms=3_000)
    settings = {"ZEROLOSS_SHARDS": "2", "ZEROLOSS_BLOCK_MS": "200", "ZEROLOSS_IDEMPOTENCY_TTL_MS": "3000"}
    pool = start_pool("--processes", "2", **settings)
    with (
        Queue.connect(config.redis_url, shards=2, idempotency_ttl_ms=3_000) as connected,
        served("asgi", config.redis_url, shards=2, idempotency_ttl_ms=3_000) as asgi,
        served("producer", config.redis_url, shards=2, idempotency_ttl_ms=3_000) as waitress,
    ):
        ways = [partial(directly, connected), partial(over_http, asgi.url), partial(over_http, waitress.url)]
        clients = [Client(way, str(number)) for number, way in enumerate(ways)]
        for client in clients:
            client.start()
        try:
            for now, name in ((3, NAMES[2]), (2, NAMES[1])):
                over(config)
                Change(config).to(now)
                enough = enqueued(queue, name) + 50
                wait_until(partial(has_enqueued, queue, name, enough), 20)
        finally:
            for client in clients:
                client.over.set()
            for client in clients:
                client.join()
        promised = set().union(*[client.promised for client in clients])

        def ran() -> set[str]:
            return {note.decode().split(":")[0] for note in queue.client.lrange("ran", 0, -1)}

        wait_until(lambda: ran() >= promised, 60, "tasks are lost")
        assert lengths(queue) == [0, 0, 0, 0]
        wait_until(lambda: not queue.client.zcard(Keys(NAMES[2]).consumers), 20, "a worker stays at the drained shard")
    doubled = [ids for client in clients for ids in client.by_key.values() if len(ids) > 1]
    assert doubled == []
    assert pool.process.poll() is None
