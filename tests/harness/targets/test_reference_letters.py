"""The reference's runs begin with thousands of dead letters, which must stay."""

from collections.abc import Callable, Iterator

import pytest
import redis
from zeroloss.reference.queue.keys import Keys
from zeroloss.system.servers import Server
from zeroloss.target import WrongAnswer
from zeroloss.targets.reference_census import census_of
from zeroloss.targets.reference_letters import COUNT, OldLetters

KEYS = Keys("tasks")


@pytest.fixture
def client(open_own_server: Callable[..., Server]) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(open_own_server().url) as connected:
        yield connected


@pytest.fixture
def letters(client: redis.Redis) -> OldLetters:
    old = OldLetters(client, KEYS)
    old.check()
    old.write()
    old.write()
    return old


def test_letters_that_are_still_there_are_a_right_answer_and_no_tasks_of_the_run(
    letters: OldLetters, client: redis.Redis
) -> None:
    assert client.xlen(KEYS.dead_letter) == COUNT
    letters.check()
    assert list(census_of(client, KEYS, letters.later)) == []
    assert len(list(census_of(client, KEYS))) == COUNT


@pytest.mark.parametrize("limit", [1_000, 10_000])
def test_a_queue_that_keeps_the_newest_letters_only_has_given_a_wrong_answer(
    letters: OldLetters, client: redis.Redis, limit: int
) -> None:
    client.xadd(KEYS.dead_letter, {"entry": ""}, maxlen=limit, approximate=True)
    with pytest.raises(WrongAnswer, match="The oldest of 11,000 old dead letters is gone"):
        letters.check()


def test_a_server_that_lost_its_data_or_is_down_says_nothing_about_old_letters(
    letters: OldLetters, client: redis.Redis
) -> None:
    client.flushall()
    client.xadd(KEYS.dead_letter, {"entry": ""})
    letters.check()
    client.shutdown(nosave=True)
    letters.check()
