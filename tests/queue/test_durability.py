"""Durability: the server confirms the configured level before a promise, and the answer states the level."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from support.processes.over_http import app_of, assert_problem, post
from support.processes.relay import Relay
from support.queue_fixtures import Queue
from support.waiting import wait_until
from zeroloss.reference.queue.config import Config, load_config
from zeroloss.reference.queue.durability import Durability
from zeroloss.reference.queue.enqueuing.submission import Submission
from zeroloss.reference.queue.errors import ConfigError, NotConfirmed, OutcomeUnknown
from zeroloss.system.servers import Server

SHORT_MS = 300
TASK = '{"payload": 1}'


@pytest.fixture
def queue_with(open_own_server: Callable[..., Server]) -> Iterator[Callable[..., Queue]]:
    """`queue_with("always", durability="fsync")` makes a queue on a separate embedded server."""
    queues = []

    def make(appendfsync: str | None, **settings: Any) -> Queue:
        server = open_own_server("embedded", appendfsync=appendfsync)
        client = redis.Redis.from_url(server.url)
        queues.append(Queue(client, server.url, **settings))
        return queues[-1]

    yield make
    for queue in queues:
        queue.client.close()
        queue.own_client.close()


@pytest.fixture
def replicated(
    queue_with: Callable[..., Queue], open_own_server: Callable[..., Server]
) -> tuple[Queue, redis.Redis, int]:
    """A queue that requires one replica, a client of that replica, and the replica's pid."""
    queue = queue_with(None, durability="replicas:1")
    queue.client.config_set("repl-diskless-sync-delay", 0)
    replica = redis.Redis.from_url(open_own_server("embedded", appendfsync=None).url)
    replica.replicaof("127.0.0.1", queue.client.connection_pool.connection_kwargs["port"])
    # Check with a write: the replica counts as connected before it has loaded the primary's data.
    wait_until(lambda: queue.client.incr("probe") and queue.client.wait(1, 100), message="The replica does not follow")
    return queue, replica, replica.info("server")["process_id"]


@pytest.fixture
def paused(replicated: tuple[Queue, redis.Redis, int]) -> Iterator[Queue]:
    """The same queue while its replica is stopped."""
    queue, _, pid = replicated
    os.kill(pid, signal.SIGSTOP)
    yield queue.configured(durability_timeout_ms=SHORT_MS)
    os.kill(pid, signal.SIGCONT)


# The setting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["memory", "fsync", "replicas:1", "replicas:12"])
def test_a_level_is_read_from_the_environment(level: str) -> None:
    assert load_config({"ZEROLOSS_DURABILITY": level}).durability == level


@pytest.mark.parametrize("level", ["disk", "replicas", "replicas:0", "replicas:-1", "replicas:x", "FSYNC", "fsync "])
def test_a_level_that_there_is_not_is_refused_in_one_sentence(level: str) -> None:
    with pytest.raises(ConfigError, match="durability must be memory, fsync or replicas:N"):
        Config(durability=level)


def test_a_confirmation_may_not_take_longer_than_a_reply_is_waited_for() -> None:
    assert Config(block_ms=1_000, durability_timeout_ms=5_000).socket_timeout_ms == 6_000
    with pytest.raises(ConfigError, match=r"durability_timeout_ms \(5001\)"):
        Config(block_ms=1_000, durability_timeout_ms=5_001)


def test_a_promise_is_as_safe_as_the_server_keeps_it_unless_more_is_asked_for() -> None:
    assert Config().durability == "memory"
    assert Durability("memory", 1).immediate


# fsync ------------------------------------------------------------------------------------------------------------


@pytest.mark.law("I2")
@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
def test_fsync_is_promised_once_the_task_is_on_disk(
    queue_with: Callable[..., Queue], appendfsync: str, tmp_path: Path
) -> None:
    queue = queue_with(appendfsync, durability="fsync")
    answer = post(app_of(queue), "/task", TASK)
    assert (answer.status_code, answer.headers["zeroloss-durability"]) == (202, "fsync")
    (aof,) = tmp_path.rglob("*.incr.aof")
    assert answer.json["task_id"].encode() in aof.read_bytes()


def test_fsync_is_503_and_unknown_where_the_server_has_no_append_only_file(queue_with: Callable[..., Queue]) -> None:
    queue = queue_with(None, durability="fsync")
    answer = post(app_of(queue), "/task", TASK)
    assert_problem(answer, 503, "primary accepted it", "fsync", "appendonly is disabled", kind="outcome-unknown")
    assert "zeroloss-durability" not in answer.headers
    assert len(queue.pending()) == 1  # in agreement with the answer


def test_fsync_is_503_where_the_file_is_only_written_by_the_kernels_leave(queue_with: Callable[..., Queue]) -> None:
    queue = queue_with("no", durability="fsync", durability_timeout_ms=SHORT_MS)
    with pytest.raises(NotConfirmed, match=r"not confirmed as fsync in time \(it was not on disk within 300 ms\)"):
        queue.enqueue(1)


def test_a_batch_is_confirmed_as_one(queue_with: Callable[..., Queue]) -> None:
    queue = queue_with("everysec", durability="fsync")
    answer = post(app_of(queue), "/tasks", "[" + ", ".join([TASK] * 500) + "]")
    assert (answer.status_code, answer.json["queued"]) == (202, 500)
    assert answer.headers["zeroloss-durability"] == "fsync"


class OldRedis:
    """A fake connection to a Redis before 7.2, for `confirm`. `text`: whether the client decodes replies."""

    def __init__(self, appendonly: str, appendfsync: str, *, text: bool = False) -> None:
        words = ["appendonly", appendonly, "appendfsync", appendfsync]
        self.kept = words if text else [word.encode() for word in words]

    def send_command(self, *command: Any) -> None:
        self.command = command

    def read_response(self) -> Any:
        if self.command == ("CONFIG", "GET", "append*"):
            return self.kept
        assert self.command == ("WAITAOF", 1, 0, SHORT_MS)
        raise redis.ResponseError("unknown command 'WAITAOF', with args beginning with: '1' '0'")


@pytest.mark.parametrize("text", [False, True])
def test_an_older_server_that_fsyncs_always_is_taken_at_its_word(text: bool) -> None:
    Durability("fsync", SHORT_MS).confirm(OldRedis("yes", "always", text=text))


@pytest.mark.parametrize(("appendonly", "appendfsync"), [("yes", "everysec"), ("yes", "no"), ("no", "always")])
def test_an_older_server_that_does_not_fsync_always_is_not(appendonly: str, appendfsync: str) -> None:
    with pytest.raises(NotConfirmed) as caught:
        Durability("fsync", SHORT_MS).confirm(OldRedis(appendonly, appendfsync))
    assert caught.value.reason == "this Redis has no WAITAOF, which came with 7.2, and does not fsync always"


# replicas ---------------------------------------------------------------------------------------------------------


@pytest.mark.law("I2")
def test_replicas_1_is_promised_once_a_replica_has_the_task(replicated: tuple[Queue, redis.Redis, int]) -> None:
    queue, replica, _ = replicated
    answer = post(app_of(queue), "/task", TASK)
    assert (answer.status_code, answer.headers["zeroloss-durability"]) == (202, "replicas:1")
    assert replica.llen(queue.keys.pending) == 1  # at once


def test_replicas_1_is_503_and_unknown_while_the_replica_stands_still(paused: Queue) -> None:
    answer = post(app_of(paused), "/task", TASK)
    words = ("primary accepted it", "not confirmed as replicas:1", "0 of 1 replicas had it within 300 ms")
    assert_problem(answer, 503, *words, "same Idempotency-Key", kind="outcome-unknown")
    assert int(answer.headers["retry-after"]) > 0
    assert len(paused.pending()) == 1


def test_repeating_the_request_is_not_a_way_round_the_confirmation(
    replicated: tuple[Queue, redis.Redis, int], paused: Queue
) -> None:
    """The task is in the queue since the first request, and a repetition writes nothing: it is still not confirmed."""
    _, replica, pid = replicated
    for _ in range(2):  # each on a new connection, which has not written before
        assert_problem(post(app_of(paused), "/task", TASK, Idempotency_Key="k"), 503, kind="outcome-unknown")
    os.kill(pid, signal.SIGCONT)
    answer = wait_until(lambda: _accepted(post(app_of(paused), "/task", TASK, Idempotency_Key="k")))
    assert answer.headers["idempotency-replayed"] == "true"
    assert replica.llen(paused.keys.pending) == 1


def _accepted(answer: Any) -> Any:
    return answer if answer.status_code == 202 else None


@pytest.mark.law("I2")
def test_a_primary_that_dies_before_it_confirms_leaves_the_outcome_unknown(paused: Queue) -> None:
    """The primary is killed when its list of blocked clients shows the waiting producer."""
    patient = paused.configured(durability_timeout_ms=4_000)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(patient.enqueue, 1)
        wait_until(lambda: paused.client.info("clients")["blocked_clients"])
        os.kill(paused.client.info("server")["process_id"], signal.SIGKILL)
        with pytest.raises(OutcomeUnknown, match=r"The primary accepted it.*Redis did not answer"):
            waiting.result(timeout=10)


def test_a_refused_write_is_not_waited_for(paused: Queue) -> None:
    full = paused.configured(max_pending=1)
    with pytest.raises(NotConfirmed):
        full.enqueue(1)
    answer = post(app_of(full), "/task", TASK)
    assert_problem(answer, 429, kind="queue-full")
    with pytest.raises(NotConfirmed):
        paused.enqueuer.enqueue(Submission(payload_json="1"))


def test_a_key_that_is_used_for_another_task_is_a_conflict_while_nothing_can_be_confirmed(paused: Queue) -> None:
    assert_problem(post(app_of(paused), "/task", TASK, Idempotency_Key="k"), 503, kind="outcome-unknown")
    answer = post(app_of(paused), "/task", '{"payload": 2}', Idempotency_Key="k")
    assert_problem(answer, 422, kind="idempotency-conflict")
    # A batch with an accepted task waits for the confirmation.
    both = [Submission(payload_json="2", idempotency_key="k"), Submission(payload_json="3")]
    with pytest.raises(NotConfirmed):
        paused.enqueuer.enqueue_many(both)


# readyz -----------------------------------------------------------------------------------------------------------


def test_readyz_states_the_level_in_force(queue_with: Callable[..., Queue]) -> None:
    queue = queue_with("always", durability="fsync")
    answer = app_of(queue).simulate_get("/readyz")
    assert (answer.status_code, answer.json["durability"]) == (200, "fsync")


def test_readyz_is_503_where_fsync_is_asked_for_and_the_server_keeps_no_file(queue_with: Callable[..., Queue]) -> None:
    answer = app_of(queue_with(None, durability="fsync")).simulate_get("/readyz")
    assert_problem(answer, 503, "appendonly", kind="durability-out-of-reach")
    assert re.fullmatch(r"No task can be promised as fsync: Redis said: .*[^.]\.", answer.json["detail"])
    assert int(answer.headers["retry-after"]) > 0


def test_readyz_is_503_where_redis_is_gone_when_asked_for_its_replicas(queue: Queue) -> None:
    with Relay(queue.config.redis_url) as relay:
        http = app_of(queue, redis_url=relay.url, durability="replicas:1")
        relay.swallow("WAIT")
        assert_problem(http.simulate_get("/readyz"), 503, "Connection closed", kind="redis-unavailable")


def test_readyz_is_503_where_replicas_are_asked_for_and_not_there(
    replicated: tuple[Queue, redis.Redis, int],
) -> None:
    queue, _, _ = replicated
    assert app_of(queue).simulate_get("/readyz").status_code == 200
    answer = app_of(queue, durability="replicas:2").simulate_get("/readyz")
    assert_problem(answer, 503, "promised as replicas:2: ", "1 of 2 replicas", kind="durability-out-of-reach")


def test_the_description_names_the_level(queue_with: Callable[..., Queue]) -> None:
    described = app_of(queue_with("always", durability="fsync")).simulate_get("/openapi.json").json
    header = described["paths"]["/task"]["post"]["responses"]["202"]["headers"]["Zeroloss-Durability"]
    assert header["schema"] == {"const": "fsync"}
