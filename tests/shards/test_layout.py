"""The shard of a key, and the even distribution of keys."""

import dataclasses
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot
from support.queue_fixtures import Queue
from zeroloss.reference.queue.config import SHARDS_MAX, Config
from zeroloss.reference.queue.errors import ConfigError, OtherProtocol
from zeroloss.reference.queue.keys import Keys
from zeroloss.reference.shards.layout import shard_configs, shard_of
from zeroloss.reference.shards.members import refuse_at_start

COUNTS = st.integers(2, 16)


@given(st.text(min_size=1), COUNTS)
def test_a_key_always_finds_the_same_shard_and_one_that_exists(key: str, count: int) -> None:
    assert shard_of(key, count) == shard_of(key, count)
    assert 0 <= shard_of(key, count) < count


@given(st.text(max_size=20), COUNTS)
def test_a_thousand_keys_a_shard_lie_within_a_fifth_of_even(prefix: str, count: int) -> None:
    """Here five standard deviations of a uniform draw are a sixth of the mean."""
    found = Counter(shard_of(f"{prefix}{number}", count) for number in range(1_000 * count))
    assert set(found) == set(range(count))
    assert all(800 < each < 1_200 for each in found.values())


@given(st.sampled_from(["tasks", "{tasks}", "a:b"]), COUNTS)
def test_all_keys_of_a_shard_lie_in_one_slot_and_no_two_shards_share_a_name(namespace: str, count: int) -> None:
    shards = shard_configs(Config(namespace=namespace, shards=count))
    assert len({shard.namespace for shard in shards}) == count
    for shard in shards:
        keys = Keys(shard.namespace)
        names = [*keys.waiting, keys.delayed, keys.counters, keys.processing("w"), keys.idempotency("k")]
        assert len({key_slot(name.encode()) for name in names}) == 1


def test_more_shards_than_anybody_needs_are_refused() -> None:
    with pytest.raises(ConfigError, match=f"shards must be a whole number from 1 to {SHARDS_MAX}"):
        Config(shards=SHARDS_MAX + 1)


def test_another_number_of_shards_than_before_is_refused_by_both_numbers(queue: Queue) -> None:
    """Otherwise a key would belong to another shard, and its repetition would be a second task."""
    config = dataclasses.replace(queue.config, shards=3)
    refuse_at_start(config)
    refuse_at_start(config)
    with pytest.raises(OtherProtocol, match=r"\{tasks-0\} is one of 3, not of 2: set ZEROLOSS_SHARDS"):
        refuse_at_start(dataclasses.replace(config, shards=2))
    with pytest.raises(OtherProtocol, match="not of 4"):
        refuse_at_start(dataclasses.replace(config, shards=4))
