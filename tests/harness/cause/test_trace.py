"""The commands that carried a task, as recorded by the proxy in front of a real server."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
import redis
from zeroloss.history.trace import TRACE_NAME, Trail, read_trails, write_trails
from zeroloss.system.proxy import Proxy, Tracer, trace
from zeroloss.system.servers import Server

TASK, OTHER = "zl-1-0000001", "zl-1-0000002"
UUID = "3f0c2a52-6d6b-4f0e-9a53-0d8f7d0a4c11"


@pytest.fixture
def tracer() -> Tracer:
    return Tracer({}, lambda: {OTHER}, count().__next__)


@pytest.fixture
def client(embedded: Server, tracer: Tracer) -> Iterator[redis.Redis]:
    """A client through the proxy, which names it worker-1."""
    with Proxy(embedded.url) as proxy, redis.Redis.from_url(proxy.listen(tracer=tracer, who="worker-1").url) as client:
        client.flushall()
        yield client
    assert proxy.failure is None


def commands(tracer: Tracer, task: str = TASK) -> list[str]:
    (trail,) = (one for one in tracer.trails({task}) if one.task == task)
    return [f"{one.command}{' <-' if one.carried_by == 'reply' else ''}" for one in trail.steps]


def test_a_pop_carries_a_task_by_its_reply_and_a_push_by_its_request(client: redis.Redis, tracer: Tracer) -> None:
    client.lpush("q", f'{{"id":"{TASK}"}}')
    client.brpop(["q"], timeout=1)
    assert commands(tracer) == ["LPUSH", "BRPOP <-"]
    (trail,) = tracer.trails({TASK})
    assert {(one.who, one.answered, one.refused) for one in trail.steps} == {("worker-1", True, "")}
    assert trail.steps[0].pid > 0


def test_a_queue_s_own_id_stands_for_the_task_that_was_sent_along_with_it(client: redis.Redis, tracer: Tracer) -> None:
    client.hset("messages", UUID, TASK)
    client.rpush("q", UUID)
    client.lpop("q")
    assert commands(tracer) == ["HSET", "RPUSH", "LPOP <-"]


def test_the_id_of_a_stream_s_entry_stands_for_its_task(client: redis.Redis, tracer: Tracer) -> None:
    client.xgroup_create("s", "g", mkstream=True)
    entry = client.xadd("s", {"id": TASK})
    client.xreadgroup("g", "c", {"s": ">"})
    client.xack("s", "g", entry)  # type: ignore[arg-type]
    assert commands(tracer) == ["XADD", "XREADGROUP <-", "XACK"]


def test_a_removed_field_of_a_hash_carries_the_task_that_was_read_from_it(client: redis.Redis, tracer: Tracer) -> None:
    client.eval("redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])", 1, "processing", 7, TASK)
    client.hget("processing", "7")
    client.hdel("processing", "8")
    client.hdel("processing", "7")
    client.hset("processing", "9", TASK)
    client.hdel("processing", "7", "9")
    assert commands(tracer)[1:] == ["HGET <-", "HDEL", "HSET", "HDEL"]


def test_an_id_that_came_with_two_tasks_stands_for_neither(client: redis.Redis, tracer: Tracer) -> None:
    for task in (TASK, OTHER):
        client.hset("messages", f"{UUID}:x", task)
    client.rpush("q", UUID)
    assert commands(tracer) == ["HSET"]


def test_a_command_of_a_transaction_is_kept_only_when_it_was_executed(client: redis.Redis, tracer: Tracer) -> None:
    with client.pipeline() as pipeline:
        pipeline.lpush("q", TASK).execute()
    connection = client.connection_pool.get_connection()
    for words in (("MULTI",), ("RPUSH", "q", TASK), ("DISCARD",)):
        connection.send_command(*words)
        connection.read_response()
    assert commands(tracer) == ["LPUSH"]


def test_a_command_that_the_server_refused_is_kept_with_its_error(client: redis.Redis, tracer: Tracer) -> None:
    client.set("q", 1)
    with pytest.raises(redis.ResponseError):
        client.lpush("q", TASK)
    (trail,) = tracer.trails({TASK})
    assert trail.steps[0].refused.startswith("WRONGTYPE")


def test_a_script_is_called_by_the_name_that_the_target_gives_it(embedded: Server) -> None:
    source = "return redis.call('LPUSH', KEYS[1], ARGV[1])"
    with redis.Redis.from_url(embedded.url) as direct:
        digest = direct.script_load(source)
    tracer = Tracer({str(digest)[:8]: "enqueue"}, set, count().__next__)
    url = embedded.url
    with Proxy(url) as proxy, redis.Redis.from_url(proxy.listen(tracer=tracer, who="client").url) as client:
        client.evalsha(str(digest), 1, "q2", TASK)
    assert commands(tracer) == ["script enqueue"]


def test_a_task_is_followed_for_its_first_and_last_steps_only(client: redis.Redis, tracer: Tracer) -> None:
    for _ in range(50):
        client.rpush("q", TASK)
    (trail,) = tracer.trails({TASK})
    assert len(trail.steps) == trace.FIRST_STEPS_MAX + trace.LAST_STEPS_MAX
    assert trail.left_out == 50 - len(trail.steps)


def test_the_same_read_again_and_again_is_one_step(client: redis.Redis, tracer: Tracer) -> None:
    client.rpush("q", TASK)
    for _ in range(5):
        client.lrange("q", 0, -1)
    (trail,) = tracer.trails({TASK})
    assert [(step.command, step.times) for step in trail.steps] == [("RPUSH", 1), ("LRANGE", 5)]


def test_completed_tasks_make_room_for_new_ones(
    client: redis.Redis, tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace, "TASKS_MAX", 1)
    client.rpush("q", OTHER)
    client.rpush("q", TASK)
    client.rpush("q", "zl-1-0000003")
    assert [one.task for one in tracer.trails({TASK, OTHER})] == [TASK]
    assert tracer.not_followed == 1


def test_trails_are_read_as_they_were_written_and_a_run_without_any_has_none(tmp_path: Path) -> None:
    assert read_trails(tmp_path) == {}
    trail = Trail(task=TASK, left_out=3)
    write_trails(tmp_path / TRACE_NAME, [trail])
    assert read_trails(tmp_path) == {TASK: trail}
