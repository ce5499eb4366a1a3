"""The scan for targets without a census: it finds task ids in any key and encoding in Redis."""

import base64
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from zeroloss.history.ids import ids_in
from zeroloss.plan.plan import task_id
from zeroloss.run.scan import scan
from zeroloss.system.servers import Server
from zeroloss.target import Found

WANTED = task_id(77, 5)
OTHER = task_id(77, 6)
ELEMENT = json.dumps({"id": WANTED, "more": "x" * 50}).encode()

PLACES: dict[str, Callable[[Any], Any]] = {
    "string": lambda client: client.set("k", ELEMENT),
    "list": lambda client: client.rpush("k", *[b"-"] * 700, ELEMENT),
    "hash value": lambda client: client.hset("k", "field", ELEMENT),
    "hash field": lambda client: client.hset("k", WANTED, "1"),
    "set": lambda client: client.sadd("k", ELEMENT),
    "sorted set": lambda client: client.zadd("k", {ELEMENT: 1}),
    "stream": lambda client: client.xadd("k", {"body": ELEMENT}),
    "name of a key": lambda client: client.set(f"job:{WANTED}", "1"),
    "base64": lambda client: client.set("k", base64.b64encode(ELEMENT)),
    "base64 in JSON": lambda client: client.set("k", json.dumps({"body": base64.b64encode(ELEMENT).decode()})),
    "base64 without padding": lambda client: client.set("k", base64.urlsafe_b64encode(ELEMENT).rstrip(b"=")),
    "zlib": lambda client: client.set("k", zlib.compress(ELEMENT)),
    "base64 of zlib": lambda client: client.set("k", base64.b64encode(zlib.compress(ELEMENT, 9))),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_task_is_found_wherever_it_lies(client: redis.Redis, server: Server, place: str) -> None:
    PLACES[place](client)
    assert [found.task for found in scan(server.url, {WANTED, OTHER})] == [WANTED]


def test_only_wanted_tasks_are_found_and_the_key_is_named(client: redis.Redis, server: Server) -> None:
    client.rpush("queue", WANTED, OTHER)
    assert scan(server.url, {OTHER}) == [Found(OTHER, "unknown", "in the list queue")]


def test_an_empty_database_holds_nothing(client: redis.Redis, server: Server) -> None:
    assert scan(server.url, {WANTED}) == []


def stream_with_group(client: Any, read: int) -> None:
    for task in (WANTED, OTHER):
        client.xadd("k", {"id": task})
    client.xgroup_create("k", "workers", "0")
    client.xreadgroup("workers", "me", {"k": ">"}, count=read)


def test_a_streams_new_entries_wait(client: redis.Redis, server: Server) -> None:
    client.xgroup_create("k", "workers", "0", mkstream=True)
    client.xadd("k", {"id": WANTED})
    assert [found.task for found in scan(server.url, {WANTED})] == [WANTED]


def test_a_streams_pending_entries_wait(client: redis.Redis, server: Server) -> None:
    stream_with_group(client, read=1)
    assert sorted(found.task for found in scan(server.url, {WANTED, OTHER})) == [WANTED, OTHER]


def test_a_streams_acknowledged_entries_do_not_wait(client: Any, server: Server) -> None:
    stream_with_group(client, read=2)
    [first, second] = [entry for entry, _ in client.xrange("k")]
    client.xack("k", "workers", first)
    assert [found.task for found in scan(server.url, {WANTED, OTHER})] == [OTHER]
    client.xack("k", "workers", second)
    assert scan(server.url, {WANTED, OTHER}) == []


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_are_looked_through_without_a_stumble(value: bytes) -> None:
    assert ids_in(value + WANTED.encode()) >= {WANTED.encode()}
    assert ids_in(b"\x78\x9c" + value) is not None
