"""The producer under ASGI: the same answers as the WSGI app, and many requests in one call of Redis."""

import asyncio
import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
from support.processes.over_http import (
    app_of,
    asgi_app_of,
    assert_problem_document,
    exchange,
    post,
    request_of,
    served,
    under_granian,
)
from support.processes.relay import Relay
from support.queue_fixtures import Queue, ids
from support.waiting import wait_until
from zeroloss.reference.http import group_commit
from zeroloss.reference.http.group_commit import GroupCommit
from zeroloss.reference.queue.enqueuer import Enqueuer
from zeroloss.reference.queue.enqueuing.submission import Accepted, Submission, turn_to_decode
from zeroloss.reference.queue.errors import (
    IdempotencyConflict,
    NotAccepted,
    OutcomeUnknown,
    QueueFull,
    TaskTooLarge,
)

TASK = b'{"payload": 1}'


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", "/task", b'{"id": "a", "payload": 1.10}', {}),
        ("POST", "/task", b'{"id": "a", "payload": 1', {}),
        ("POST", "/task", b'{"id": "a", "payload": "%b"}' % (b"x" * 70_000), {}),
        ("POST", "/task", b'{"id": "a", "payload": "%b"}' % (b"x" * 200_000), {}),
        ("POST", "/task", TASK, {"Content-Type": "text/plain"}),
        ("POST", "/task", TASK, {"Content-Encoding": "gzip"}),
        ("POST", "/task", b'{"id": "a", "payload": 1}', {"Idempotency-Key": "k"}),
        ("POST", "/tasks", b'[{"id": "a", "payload": 1}, 2, {"id": "b", "payload": 3}]', {}),
        ("POST", "/tasks", b"[]", {}),
        ("POST", "/tasks", b'{"id": "a", "payload": 1}\n\xff', {"Content-Type": "application/x-ndjson"}),
        ("GET", "/task", b"", {}),
        ("GET", "/nowhere", b"", {}),
        ("GET", "/healthz", b"", {}),
        ("GET", "/readyz", b"", {}),
        ("GET", "/openapi.json", b"", {}),
    ],
)
def test_the_asgi_app_answers_as_the_wsgi_app_does(
    queue: Queue, method: str, path: str, body: bytes, headers: dict[str, str]
) -> None:
    answers = []
    for make in (app_of, asgi_app_of):
        queue.client.flushall()
        http = make(queue, max_task_bytes=100_000)
        answer = http.simulate_request(method, path, body=body, headers={"Content-Type": "application/json", **headers})
        said = dict(answer.headers)
        answers.append((answer.status_code, said, answer.content, ids(queue.pending())))
    assert answers[0] == answers[1]


class Slow(Enqueuer):
    """Waits in each call for `may_go_on`, and records the number of requests of each call."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(queue.own_client, queue.config)
        self.calls: list[int] = []
        self.may_go_on = threading.Event()

    def send_requests(self, _requests: Any) -> None:
        """Return None, so that each call is made in the thread, where it may wait."""

    def enqueue_requests(self, requests: Sequence[Sequence[Submission]]) -> Any:
        self.calls.append(len(requests))
        assert self.may_go_on.wait(20)
        return super().enqueue_requests(requests)


def outcomes_of(enqueuer: Enqueuer, *requests: list[Submission]) -> list[Any]:
    """Return the outcomes of these concurrent requests, errors included."""

    async def ask() -> list[Any]:
        group = GroupCommit(enqueuer, 6)
        return await asyncio.gather(*[group.enqueue(request) for request in requests], return_exceptions=True)

    return asyncio.run(ask())


def one(payload_json: str = "1", **members: Any) -> list[Submission]:
    return [Submission(payload_json, **members)]


def test_requests_that_clients_send_after_their_answers_join_those_that_came_during_the_call(queue: Queue) -> None:
    """Else the clients split into two groups for good, each of which waits for the call of the other."""
    enqueuer = Slow(queue)

    async def ask() -> None:
        group = GroupCommit(enqueuer, 6)

        async def send(count: int) -> None:
            for _ in range(count):
                await group.enqueue(one())

        async with asyncio.TaskGroup() as clients:
            for _ in range(3):
                clients.create_task(send(5))
            while not enqueuer.calls:
                await asyncio.sleep(0)
            clients.create_task(send(4))
            await asyncio.sleep(0)
            enqueuer.may_go_on.set()

    asyncio.run(ask())
    assert enqueuer.calls == [3, 4, 4, 4, 4]


def test_the_requests_of_one_turn_travel_by_one_call_and_each_has_its_own_answer(queue: Queue) -> None:
    enqueuer = Slow(queue.configured(max_pending=2, max_task_bytes=200))
    enqueuer.may_go_on.set()
    requests = [
        one(idempotency_key="k"),
        one('"%s"' % ("x" * 300)),
        one("2", idempotency_key="k"),
        one(idempotency_key="k"),
        one("2"),
        one("3"),
    ]
    first, large, conflict, again, second, third = outcomes_of(enqueuer, *requests)
    assert enqueuer.calls == [6]
    assert isinstance(large[0], TaskTooLarge)
    assert isinstance(conflict[0], IdempotencyConflict)
    assert again == [Accepted(first[0].task_id, replayed=True)]
    assert isinstance(third, QueueFull)
    assert ids(queue.pending()) == [first[0].task_id, second[0].task_id]


def test_the_requests_that_come_during_a_call_travel_by_the_next(queue: Queue) -> None:
    enqueuer = Slow(queue)

    async def ask() -> None:
        group = GroupCommit(enqueuer, 6)
        first = asyncio.create_task(group.enqueue(one()))
        while not enqueuer.calls:
            await asyncio.sleep(0.001)
        rest = [asyncio.create_task(group.enqueue(one())) for _ in range(3)]
        await asyncio.sleep(0)
        enqueuer.may_go_on.set()
        assert all(isinstance(answer[0], Accepted) for answer in await asyncio.gather(first, *rest))

    asyncio.run(ask())
    assert enqueuer.calls == [1, 3]
    assert len(queue.pending()) == 4


def test_a_group_is_bounded_and_what_is_beyond_travels_by_the_next_call(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "GROUP_TASKS_MAX", 3)
    enqueuer = Slow(queue)
    enqueuer.may_go_on.set()
    outcomes = outcomes_of(enqueuer, one() * 2, one() * 2, one(), one() * 9)
    assert enqueuer.calls == [1, 2, 1]
    assert [len(each) for each in outcomes] == [2, 2, 1, 9]


def test_a_request_beyond_what_may_wait_is_refused_at_once(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_commit, "WAITING_REQUESTS_MAX", 2)
    enqueuer = Slow(queue)
    enqueuer.may_go_on.set()
    first, second, third = outcomes_of(enqueuer, one(), one(), one())
    assert isinstance(first[0], Accepted)
    assert isinstance(second[0], Accepted)
    assert isinstance(third, NotAccepted)


def test_after_a_lost_reply_every_request_of_the_call_is_unknown(queue: Queue) -> None:
    queue.enqueue("to load the script")
    with Relay(queue.config.redis_url) as relay:
        relayed = queue.configured(redis_url=relay.url)
        relayed.enqueue("to know the protocol")
        relay.swallow("EVALSHA")
        outcomes = outcomes_of(relayed.enqueuer, one(), one(), one())
        assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 3
        assert len(queue.pending()) == 5
        (outcome,) = outcomes_of(relayed.enqueuer, one())  # on a new connection
        assert isinstance(outcome[0], Accepted)


def test_a_redis_that_hangs_leaves_the_requests_of_its_call_unknown(queue: Queue) -> None:
    queue.enqueue("to know the protocol")
    queue.client.client_pause(60_000, all=False)
    try:

        async def ask() -> list[Any]:
            group = GroupCommit(queue.enqueuer, 0.1)
            return await asyncio.gather(group.enqueue(one()), group.enqueue(one()), return_exceptions=True)

        assert [type(outcome) for outcome in asyncio.run(ask())] == [OutcomeUnknown] * 2
    finally:
        queue.client.client_unpause()
    wait_until(lambda: len(queue.pending()) in (1, 3))
    (outcome,) = outcomes_of(queue.enqueuer, one())
    assert isinstance(outcome[0], Accepted)


def test_the_loop_does_not_wait_for_the_digest_of_a_large_payload(queue: Queue) -> None:
    """Another thread has the turn to decode. A thread waits for the turn, and the loop goes on."""
    queue.enqueue("to know the protocol")
    large = one('"%s"' % ("x" * 100_000), idempotency_key="k")

    async def ask() -> None:
        group = GroupCommit(queue.enqueuer, 6)
        with turn_to_decode(100_000):
            waiting = asyncio.create_task(group.enqueue(large))
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert not waiting.done()
        assert isinstance((await waiting)[0], Accepted)

    asyncio.run(ask())


def test_a_script_that_redis_has_forgotten_is_sent_whole(queue: Queue) -> None:
    queue.enqueue("to know the protocol")
    queue.client.script_flush()
    first, second = outcomes_of(queue.enqueuer, one(), one())
    assert ids(queue.pending())[1:] == [first[0].task_id, second[0].task_id]


def test_after_a_definite_refusal_nothing_of_any_request_was_accepted(queue: Queue, dead_port: int) -> None:
    lost = queue.configured(redis_url=f"redis://127.0.0.1:{dead_port}/0")
    outcomes = outcomes_of(lost.enqueuer, one(), one())
    assert [type(outcome) for outcome in outcomes] == [NotAccepted] * 2


def test_a_failure_that_nobody_foresaw_is_the_answer_of_every_request(queue: Queue) -> None:
    class Broken(Enqueuer):
        def send_requests(self, _requests: Any) -> Any:
            raise MemoryError("none left")

    outcomes = outcomes_of(Broken(queue.own_client, queue.config), one(), one())
    assert [type(outcome) for outcome in outcomes] == [MemoryError] * 2


def test_a_client_that_gives_up_takes_no_answer_from_the_others(queue: Queue) -> None:
    enqueuer = Slow(queue)

    async def ask() -> None:
        group = GroupCommit(enqueuer, 6)
        gone, stays = (asyncio.create_task(group.enqueue(one())) for _ in range(2))
        while not enqueuer.calls:
            await asyncio.sleep(0.001)
        gone.cancel()
        enqueuer.may_go_on.set()
        assert isinstance((await stays)[0], Accepted)

    asyncio.run(ask())


def test_granian_serves_the_asgi_app(queue: Queue) -> None:
    with under_granian(queue.config.redis_url) as port:
        status, _, answer = exchange(port, request_of("/task", TASK))
    assert (status, [json.loads(answer)["task_id"]]) == (202, ids(queue.pending()))


def test_many_connections_at_once_lose_and_invent_nothing_under_uvicorn(queue: Queue) -> None:
    with served("asgi", queue.config.redis_url) as producer, ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(exchange, producer.port, request_of("/task", TASK)) for _ in range(160)]
        promised = [json.loads(answer.result()[2])["task_id"] for answer in answers]
        producer.process.send_signal(signal.SIGTERM)
        assert producer.process.wait(timeout=10) == 0
        assert producer.said() == ""
    assert sorted(ids(queue.pending())) == sorted(promised)


def test_a_stopping_asgi_producer_finishes_its_running_requests(queue: Queue) -> None:
    with served("asgi", queue.config.redis_url) as producer, ThreadPoolExecutor(1) as pool:
        queue.client.client_pause(10_000, all=False)
        try:
            running = pool.submit(exchange, producer.port, request_of("/task", TASK))
            wait_until(lambda: queue.client.info("clients")["blocked_clients"] > 0)
            producer.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not listens_at(producer.port))
        finally:
            queue.client.client_unpause()
        assert running.result(timeout=10)[0] == 202
        assert producer.process.wait(timeout=10) == 0


def test_several_processes_share_one_port_and_count_together(queue: Queue) -> None:
    with served("asgi", queue.config.redis_url, processes=2) as producer:
        wait_until(lambda: len(psutil.Process(producer.process.pid).children(recursive=True)) >= 2)
        for _ in range(20):
            assert exchange(producer.port, request_of("/task", TASK))[0] == 202
        _, _, metrics = exchange(producer.port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b'zeroloss_producer_enqueued_total{priority="default"} 20.0' in metrics
        producer.process.send_signal(signal.SIGTERM)
        assert producer.process.wait(timeout=20) == 0
    assert len(queue.pending()) == 20


def test_the_processes_of_a_producer_that_is_killed_end_and_free_its_port(queue: Queue) -> None:
    with served("asgi", queue.config.redis_url, processes=2) as producer:
        wait_until(lambda: len(psutil.Process(producer.process.pid).children(recursive=True)) >= 3)  # and a tracker
        processes = psutil.Process(producer.process.pid).children(recursive=True)
        assert exchange(producer.port, request_of("/task", TASK))[0] == 202
        producer.process.kill()
        _, living = psutil.wait_procs(processes, timeout=20)
        assert living == []
    with served("asgi", queue.config.redis_url, port=producer.port) as successor:
        assert successor.port == producer.port


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / / HTTP/1.1\r\nHost x\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nX: %b\r\n\r\n" % (b"x" * 300_000), 431),
        (b"POST /task HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ],
    ids=["no http", "a long head", "two lengths"],
)
def test_a_request_that_never_reaches_the_asgi_app_is_answered_with_a_problem_document(
    queue: Queue, request_bytes: bytes, status: int
) -> None:
    with served("asgi", queue.config.redis_url) as producer:
        answered, _, body = exchange(producer.port, request_bytes)
        assert answered == status
        assert_problem_document(json.loads(body), status)


def test_metrics_count_requests_by_route_and_status_and_tasks_by_priority(queue: Queue) -> None:
    for make in (app_of, asgi_app_of):
        http = make(queue)
        post(http, "/task", b'{"payload": 1, "priority": "high"}', Idempotency_Key=make.__name__)
        post(http, "/task", b'{"payload": 1, "priority": "high"}', Idempotency_Key=make.__name__)
        post(http, "/tasks", b'[{"payload": 1}, {"payload": 2}, 3]')
        for number in range(3):
            http.simulate_get(f"/nowhere/{number}")
        lines = set(http.simulate_get("/metrics").text.splitlines())
        assert lines >= {
            'zeroloss_http_requests_total{route="/task",status="202"} 2.0',
            'zeroloss_http_requests_total{route="/tasks",status="207"} 1.0',
            'zeroloss_http_requests_total{route="other",status="404"} 3.0',
            'zeroloss_producer_enqueued_total{priority="high"} 1.0',
            'zeroloss_producer_enqueued_total{priority="default"} 2.0',
        }


def listens_at(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("part", ["asgi", "producer"])
def test_a_connection_that_was_idle_for_seconds_is_still_served(part: str, queue: Queue) -> None:
    with served(part, queue.config.redis_url) as producer:
        connection = http.client.HTTPConnection("127.0.0.1", producer.port, timeout=10)
        for pause_s in (6, 0):  # uvicorn's own limit is 5 s
            connection.request("POST", "/task", TASK, {"Content-Type": "application/json"})
            assert connection.getresponse().read()
            time.sleep(pause_s)
        assert len(queue.pending()) == 2
