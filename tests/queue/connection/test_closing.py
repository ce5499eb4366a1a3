"""Closing a queue or a client: its connections leave the server, while the object itself is still held."""

from collections.abc import Callable

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.queue_fixtures import Queue as Seen
from support.waiting import wait_until
from zeroloss.reference.queue.client import Queue
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import borrowed, connect

NAMED = "?client_name=closing"


@pytest.fixture
def is_gone(queue: Seen) -> Callable[[], bool]:
    """Tells whether the server has no connection with the name `closing`."""
    return lambda: all(entry["name"] != "closing" for entry in queue.client.client_list())


@pytest.mark.parametrize("shards", [1, 3])
def test_a_closed_queue_has_no_connection_and_its_next_command_opens_one(
    queue: Seen, is_gone: Callable[[], bool], shards: int
) -> None:
    made = Queue.connect(queue.config.redis_url + NAMED, shards=shards)
    for _ in range(2):
        made.enqueue("email", 1)
        made.enqueue("email", 1, idempotency_key="k")
        made.stats()
        made.dead_letters.count()
        made.resume()
        assert not is_gone()
        made.close()
        wait_until(is_gone, message="a connection stays open")
    with made:
        made.enqueue("email", 1)
    wait_until(is_gone, message="a connection stays open")


def test_connections_of_a_client_that_was_closed_are_closed(queue: Seen, is_gone: Callable[[], bool]) -> None:
    client = connect(Config(redis_url=queue.config.redis_url + NAMED))
    with borrowed(client), borrowed(client), borrowed(client):
        pass
    assert not is_gone()
    client.close()
    wait_until(is_gone, message="a connection stays open")


def test_a_connection_in_use_while_its_client_is_closed_answers_and_is_closed_then(
    queue: Seen, is_gone: Callable[[], bool]
) -> None:
    client = connect(Config(redis_url=queue.config.redis_url + NAMED))
    with borrowed(client) as connection:
        connection.send_command("PING")
        client.close()
        assert connection.read_response() == b"PONG"
        assert not is_gone()
    wait_until(is_gone, message="the connection stays open")


def test_a_pool_that_the_callers_own_client_shares_stays_open_after_the_queue(
    queue: Seen, is_gone: Callable[[], bool]
) -> None:
    with redis.ConnectionPool.from_url(queue.config.redis_url + NAMED, retry=Retry(NoBackoff(), 0)) as pool:
        with Queue(redis.Redis(connection_pool=pool), queue.config) as made:
            made.enqueue("email", 1)
        assert not is_gone()
    wait_until(is_gone, message="the connection stays open")
