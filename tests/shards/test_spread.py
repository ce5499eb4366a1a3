"""Tasks over several shards: by key, or in turn without a key, avoiding shards that refuse."""

import dataclasses
from collections.abc import Iterator

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from support.queue_fixtures import Queue as Seen
from zeroloss.reference.queue.client import NewTask, Queue
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.dead_letters import NotRequeueable
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission
from zeroloss.reference.queue.errors import IdempotencyConflict, NotAccepted, QueueFull
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.shards.layout import shard_configs, shard_of
from zeroloss.reference.shards.queue import ShardedQueue
from zeroloss.reference.shards.spread import Spread
from zeroloss.reference.stats.gauges import Reading

SHARDS = 4


@pytest.fixture
def config(queue: Seen) -> Config:
    return dataclasses.replace(queue.config, shards=SHARDS, max_pending=1_000)


@pytest.fixture
def spread(config: Config) -> Iterator[Spread]:
    made = Spread(config)
    yield made
    made.close()


def names(config: Config) -> list[str]:
    return [each.namespace for each in shard_configs(config)]


def lengths(queue: Seen, config: Config) -> list[int]:
    return [queue.client.llen(Keys(name).pending) for name in names(config)]


def spoil(queue: Seen, config: Config, number: int) -> None:
    """Make a shard refuse all tasks: its list gets another type."""
    queue.client.set(Keys(names(config)[number]).pending, "no list")


def key_of(number: int) -> str:
    """Return a key that belongs to this shard."""
    return next(key for key in map(str, range(1_000)) if shard_of(key, SHARDS) == number)


def test_tasks_without_a_key_take_turns_so_that_shards_differ_by_one_at_most(
    queue: Seen, config: Config, spread: Spread
) -> None:
    for _ in range(10):
        spread.enqueue(Submission("1"))
    assert sorted(lengths(queue, config)) == [2, 2, 3, 3]


def test_a_large_batch_without_keys_is_spread_evenly_and_a_small_one_stays_together(
    queue: Seen, config: Config, spread: Spread
) -> None:
    spread.enqueue_many([Submission("1")] * 10)
    assert sorted(lengths(queue, config)) == [0, 0, 0, 10]
    queue.client.flushall()
    spread.enqueue_many([Submission("1")] * 800)
    assert lengths(queue, config) == [200] * SHARDS


def test_a_repeated_key_is_one_task_whatever_came_between(queue: Seen, config: Config, spread: Spread) -> None:
    for key in map(str, range(40)):
        first = spread.enqueue(Submission("1", idempotency_key=key))
        spread.enqueue(Submission("2"))
        assert spread.enqueue(Submission("1", idempotency_key=key)) == Accepted(first.task_id, replayed=True)
    assert sum(lengths(queue, config)) == 80


@given(st.lists(st.tuples(st.sampled_from([None, "a", "b", "c", "d", "e"]), st.integers(0, 2)), max_size=30))
def test_a_batch_answers_in_its_order_what_single_requests_would(
    queue: Seen, config: Config, drawn: list[tuple[str | None, int]]
) -> None:
    submissions = [
        Submission(str(payload), task_id=f"{key or number}-{payload}", idempotency_key=key)
        for number, (key, payload) in enumerate(drawn)
    ]

    def told(outcome: object) -> object:
        return type(outcome) if isinstance(outcome, Exception) else outcome

    answers = []
    for together in (True, False):
        queue.client.flushall()
        spread = Spread(config)
        if together:
            answers.append([told(outcome) for outcome in spread.enqueue_many(submissions)])
        else:
            singles = [spread.enqueue_many([submission])[0] for submission in submissions]
            answers.append([told(outcome) for outcome in singles])
        answers.append([sum(lengths(queue, config))])
        spread.close()
    assert answers[:2] == answers[2:]


def test_a_shard_that_refuses_costs_only_the_tasks_whose_keys_are_its_own(
    queue: Seen, config: Config, spread: Spread
) -> None:
    spoil(queue, config, 1)
    for _ in range(20):
        spread.enqueue(Submission("1"))
    with pytest.raises(NotAccepted, match="refused"):
        spread.enqueue(Submission("1", idempotency_key=key_of(1)))
    for number in (0, 2, 3):
        spread.enqueue(Submission("1", idempotency_key=key_of(number)))
    keyed = [Submission("1", idempotency_key=f"{key_of(number)}") for number in (0, 1, 2)]
    outcomes = spread.enqueue_many([*keyed, Submission("3")])
    assert [type(outcome) for outcome in outcomes] == [Accepted, NotAccepted, Accepted, Accepted]


def test_a_full_shard_is_passed_over_and_full_shards_are_one_refusal(
    queue: Seen, config: Config, spread: Spread
) -> None:
    full = Spread(dataclasses.replace(config, max_pending=2))
    for _ in range(2 * SHARDS):
        full.enqueue(Submission("1"))
    assert lengths(queue, config) == [2] * SHARDS
    with pytest.raises(QueueFull):
        full.enqueue(Submission("1"))
    with pytest.raises(QueueFull):
        full.enqueue_many([Submission("1")] * 500)
    full.close()


def test_a_queue_of_shards_counts_pauses_and_gives_back_as_one_queue_does(queue: Seen, config: Config) -> None:
    with Queue.connect(config.redis_url, shards=SHARDS) as connected:
        assert isinstance(connected, ShardedQueue)
        outcomes = connected.enqueue_many([NewTask("a", number) for number in range(400)])
        assert all(isinstance(outcome, Accepted) for outcome in outcomes)
        connected.enqueue("a", 1, idempotency_key="k")
        with pytest.raises(IdempotencyConflict):
            connected.enqueue("a", 2, idempotency_key="k")
        stats = connected.stats()
        assert (stats.pending, stats.counters["enqueued"]) == (401, 401)
        assert {name: reading and reading.pending for name, reading in stats.shards.items()}.keys() == {*names(config)}
        connected.pause()
        assert connected.resume()
        assert not connected.resume()


def test_a_figure_that_one_shard_cannot_tell_is_missing_in_the_sum_and_named(queue: Seen, config: Config) -> None:
    with Queue.connect(config.redis_url, shards=SHARDS) as connected:
        spoil(queue, config, 2)
        stats = connected.stats()
        assert stats.pending is None
        assert stats.unreadable["pending"].startswith("{tasks-2}: ")
        assert stats.dead_letter == 0


def test_the_reason_why_a_shard_does_not_answer_ends_with_one_full_stop(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Reading | redis.RedisError] = [redis.ConnectionError("Error 111 connecting. Connection refused.")]
    with Queue.connect(config.redis_url, shards=SHARDS) as connected:
        (reading, *_) = [each for each in connected.stats().shards.values() if each]
        answers += [reading] * (SHARDS - 1)
        monkeypatch.setattr("zeroloss.reference.shards.queue.together", lambda *_: answers)
        sentence = connected.stats().unreadable["pending"]
    assert sentence == "{tasks-0} does not answer: Error 111 connecting. Connection refused."


def test_dead_letters_of_all_shards_are_one_list_newest_first(queue: Seen, config: Config) -> None:
    for name in names(config)[:3]:
        of_shard = queue.configured(namespace=name)
        for _ in range(3):
            of_shard.dead_lettered(name)
    with Queue.connect(config.redis_url, shards=SHARDS) as connected:
        letters = connected.dead_letters
        everything = letters.page()
        assert letters.count() == len(everything) == 9
        pages, before = [], None
        while page := letters.page(2, before):
            pages += page
            before = page[-1].id
        assert [letter.id for letter in pages] == [letter.id for letter in everything]
        assert letters.requeue(everything[0].id, everything[4].id) == 2
        assert letters.purge(everything[1].id) == 1
        assert letters.purge_all() == 6


def test_a_letter_that_cannot_be_read_keeps_no_letter_of_another_shard_from_being_requeued(
    queue: Seen, config: Config
) -> None:
    unreadable, readable = (queue.configured(namespace=name) for name in names(config)[:2])
    unreadable.client.xadd(unreadable.keys.dead_letter, {"entry": "no task", "reason": "", "consumer": "", "error": ""})
    readable.dead_lettered("a")
    with Queue.connect(config.redis_url, shards=SHARDS) as connected:
        letters = connected.dead_letters
        (broken,) = [letter.id for letter in letters.page() if letter.id.startswith("0/")]
        with pytest.raises(NotRequeueable, match=f"^{broken} cannot be read"):
            letters.requeue(*[letter.id for letter in letters.page()])
        assert [letter.id for letter in letters.page()] == [broken]


def test_several_requests_of_one_call_are_answered_each_by_itself(queue: Seen, config: Config, spread: Spread) -> None:
    spoil(queue, config, 1)
    refused, accepted, nothing = spread.enqueue_requests(
        [[Submission("1", idempotency_key=key_of(1))], [Submission("2", idempotency_key=key_of(0))], []]
    )
    assert isinstance(refused, NotAccepted)
    assert isinstance(accepted, list)
    assert isinstance(accepted[0], Accepted)
    assert nothing == []
