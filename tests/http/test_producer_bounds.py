"""The cost of a request: decoding stops, and the body is refused, at the limit of a task or a batch."""

import json
import re
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.processes.over_http import (
    Served,
    app_of,
    assert_problem,
    assert_problem_document,
    exchange,
    post,
    request_of,
    served,
    under_granian,
)
from support.queue_fixtures import Queue, payloads
from support.waiting import wait_until
from zeroloss.reference.http import submissions
from zeroloss.reference.http.submissions import ENVELOPE_BYTES, split_lines
from zeroloss.system.servers import Server

HEALTHZ = b"GET /healthz HTTP/1.1\r\n\r\n"


def filled(unit: bytes, size_bytes: int) -> bytes:
    return unit * (size_bytes // len(unit))


def names(size_bytes: int) -> bytes:
    return b"{%b}" % b",".join(b'"%06d":1' % number for number in range(size_bytes // 11))


def costly(size_bytes: int) -> dict[str, tuple[str, str, bytes]]:
    """Return bodies that grow much when decoded: name -> path, media type, body."""
    brackets, elevens = filled(b"[],", size_bytes), filled(b"11,", size_bytes)
    return {
        "an array in the payload": ("/task", "application/json", b'{"payload":[%b0]}' % brackets),
        "an array for a task": ("/task", "application/json", b"[%b0]" % elevens),
        "names that no task has": ("/task", "application/json", names(size_bytes)),
        "a batch of arrays": ("/tasks", "application/json", b"[%b0]" % brackets),
        "a batch of numbers": ("/tasks", "application/json", b"[%b0]" % elevens),
        "a batch of one array": ("/tasks", "application/json", b"[[%b0]]" % brackets),
        "a batch of one object": ("/tasks", "application/json", b"[%b]" % names(size_bytes)),
        "lines of numbers": ("/tasks", "application/x-ndjson", filled(b"11\n", size_bytes)),
        "one line": ("/tasks", "application/x-ndjson", b"[%b0]" % brackets),
    }


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the texts from which a task was read, in bytes."""
    lengths: list[int] = []

    def noting(text: bytes, *arguments: Any) -> Any:
        lengths.append(len(text))
        return submissions.read_submission(text, *arguments)

    monkeypatch.setattr("zeroloss.reference.http.intake.read_submission", noting)
    return lengths


@pytest.mark.parametrize("chunked", [False, True], ids=["by its length", "chunked"])
def test_a_body_that_is_larger_than_a_task_and_its_envelope_is_413_and_is_not_decoded(
    queue: Queue, decoded: list[int], chunked: bool
) -> None:
    http = app_of(queue, max_task_bytes=1_000)
    limit = 1_000 + ENVELOPE_BYTES
    task = b'{"payload": 1}'
    headers = {"Content-Type": "application/json"}
    extras = {"wsgi.input_terminated": True, "CONTENT_LENGTH": ""} if chunked else {}
    answer = http.simulate_post("/task", body=task.ljust(limit + 1), headers=headers, extras=extras)
    assert_problem(answer, 413, f"more than {limit} bytes", "a reference to where the data lies", kind="too-large")
    assert decoded == []
    assert http.simulate_post("/task", body=task.ljust(limit), headers=headers, extras=extras).status_code == 202
    assert payloads(queue.pending()) == [1]


def test_a_task_of_the_largest_size_is_accepted_however_its_names_are_written(queue: Queue) -> None:
    name = "\\ud83e\\udde8" * 256
    payload = "x" * 999_000
    task = f'{{ "\\u0069\\u0064" : "{name}" , "type" : "{name}" , "payload" : "{payload}" }}'
    assert len(task) > 1_005_000
    assert post(app_of(queue, max_task_bytes=1_005_600), "/task", task).status_code == 202


@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
def test_a_batch_is_split_no_further_than_to_the_first_task_too_many(
    queue: Queue, decoded: list[int], media_type: str
) -> None:
    tasks = [b'{"payload": 1}'] * 3 + [b"this is not JSON and nobody reads it"]
    body = b"[%b]" % b",".join(tasks) if media_type == "application/json" else b"\n".join(tasks)
    answer = post(app_of(queue, max_batch=2), "/tasks", body, Content_Type=media_type)
    assert_problem(answer, 413, "at least 3 tasks", "2 allowed", kind="too-large")
    assert decoded == []
    assert queue.everything() == {}


def test_a_line_larger_than_a_task_may_be_is_refused_alone_and_is_not_decoded(queue: Queue, decoded: list[int]) -> None:
    http = app_of(queue, max_task_bytes=1_000)
    large = b'{"payload": [%b0]}' % filled(b"[],", 1_000 + ENVELOPE_BYTES)
    answer = post(http, "/tasks", b'{"payload": 1}\n%b\n{"payload": 2}' % large, Content_Type="application/x-ndjson")
    assert [result["status"] for result in answer.json["results"]] == ["queued", "refused", "queued"]
    assert_problem_document(answer.json["results"][1]["problem"], 413, "at most 1000", kind="too-large")
    assert max(decoded) < 1_000


@pytest.mark.parametrize(
    "item",
    [
        b"[%b0]" % filled(b"[],", 20_000),
        b'{"payload": "%b"}' % (b"x" * 20_000),
        b'"%b"' % (b"\\u0041" * 4_000),
        names(20_000),
        b"1." + b"1" * 20_000,
    ],
    ids=["arrays", "a string", "escapes", "an object", "a number"],
)
@pytest.mark.parametrize("before", [0, 1, 900, 1_000])
def test_an_item_of_an_array_that_is_larger_than_a_task_refuses_the_batch_with_413(
    queue: Queue, item: bytes, before: int
) -> None:
    http = app_of(queue, max_task_bytes=1_000)
    batch = b"[%b%b, 3]" % (b'{"payload": 1},' * before, item)
    answer = post(http, "/tasks", batch)
    limit = 1_000 + ENVELOPE_BYTES
    assert_problem(answer, 413, f"Item {before} has more than {limit} bytes", "Nothing", kind="too-large")
    assert queue.everything() == {}


def test_empty_lines_are_not_items_however_many_there_are() -> None:
    assert list(split_lines(b"\n\n \t\r\n 1 \n\n2\n" + b"\n" * 1_000)) == [b"1", b"2"]


@pytest.mark.parametrize(
    "name", ["an array in the payload", "a batch of one array", "lines of numbers", "names that no task has"]
)
def test_sixteen_bodies_that_grow_when_decoded_cost_little_memory_and_give_it_back(queue: Queue, name: str) -> None:
    """Decoded completely, each body takes hundreds of megabytes and blocks the process for minutes."""
    path, media_type, body = costly(8_000_000)[name]
    request = request_of(path, body, media_type=media_type)
    with served("producer", queue.config.redis_url) as producer, ThreadPoolExecutor(16) as pool:
        exchange(producer.port, request_of("/task", b'{"payload": 1}'))
        before = memory_mb(producer, "VmRSS")
        answers = [pool.submit(exchange, producer.port, request, 100) for _ in range(16)]
        while not all(answer.done() for answer in answers):
            assert exchange(producer.port, HEALTHZ, 60)[0] == 200
        assert [answer.result()[0] for answer in answers] == [413] * 16
        assert memory_mb(producer, "VmHWM") < before + 400
        wait_until(lambda: memory_mb(producer, "VmRSS") < before + 64, message="the memory does not come back")
    assert queue.everything().keys() == {"tasks:bell", "tasks:pending", "tasks:counters", "tasks:protocol"}


def memory_mb(server: Served, member: str) -> int:
    """Return the server's memory in MiB; `VmRSS`: current, `VmHWM`: maximum so far."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"^{member}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) // 1024


CHUNKED_AND_LENGTH = (
    b"POST /task HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 14\r\n"
    b"Transfer-Encoding: chunked\r\n\r\ne\r\n" + b'{"payload": 1}' + b"\r\n0\r\n\r\n"
)
BOTH_SERVERS = pytest.mark.parametrize("part", ["producer", "asgi"])


@BOTH_SERVERS
@pytest.mark.parametrize("path", ["/task", "/tasks"])
def test_a_length_beyond_the_limit_is_413_before_the_client_may_go_on(queue: Queue, part: str, path: str) -> None:
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n"
    with served(part, queue.config.redis_url, max_task_bytes=1_000, max_body_bytes=20_000) as producer:
        status, _, body = exchange(producer.port, f"{head}Content-Length: 20001\r\n\r\n".encode())
        assert_problem_document(json.loads(body), 413, kind="too-large")
        if path == "/task":
            status, _, _ = exchange(producer.port, f"{head}Content-Length: 10000\r\n\r\n".encode())
    assert status == 413


@BOTH_SERVERS
def test_a_chunked_body_with_a_length_is_refused_and_its_connection_closed(queue: Queue, part: str) -> None:
    with served(part, queue.config.redis_url) as producer:
        with socket.create_connection(("127.0.0.1", producer.port), timeout=20) as connection:
            connection.sendall(CHUNKED_AND_LENGTH)
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"application/problem+json" in answer
    assert set(queue.everything()) <= {"tasks:protocol"}


@pytest.mark.parametrize("part", ["producer", "asgi", "monitor"])
def test_healthz_answers_at_once_while_redis_hangs_forty_clients_wait_and_large_bodies_are_sent(
    part: str, open_own_server: Callable[..., Server]
) -> None:
    item = b'{"payload":[%b0]}' % (b"[]," * 300_000)
    path, small = "/tasks", request_of("/task", b'{"payload": 2}')
    if part == "monitor":
        path, small = "/letters/requeue", b"GET /stats HTTP/1.1\r\nHost: localhost\r\n\r\n"
    large = request_of(path, b"[%b]" % b",".join([item] * 4))
    server = open_own_server(appendfsync=None)
    with served(part, server.url) as process, ThreadPoolExecutor(56) as pool:
        assert exchange(process.port, small)[0] in (200, 202)
        server.pause()
        try:
            answers = [pool.submit(exchange, process.port, large, 60) for _ in range(16)]
            waiting = [pool.submit(exchange, process.port, small, 60) for _ in range(40)]
            took_s = []
            while len(took_s) < 30 and not all(answer.done() for answer in waiting):
                began_s = time.monotonic()
                assert exchange(process.port, HEALTHZ)[0] == 200
                took_s.append(time.monotonic() - began_s)
        finally:
            server.resume()
        assert {answer.result()[0] for answer in answers} <= {202, 400, 413, 503}
        assert {answer.result()[0] for answer in waiting} <= {200, 202, 503}
        assert sorted(took_s)[len(took_s) // 2] < 0.1, "the median: the machine may be busy"


@BOTH_SERVERS
def test_twelve_hundred_idle_connections_leave_the_service_answering(queue: Queue, part: str) -> None:
    with served(part, queue.config.redis_url) as producer, ExitStack() as opened:
        for _ in range(1_200):
            opened.enter_context(socket.create_connection(("127.0.0.1", producer.port), timeout=20))
        assert exchange(producer.port, request_of("/task", b'{"payload": 1}'))[0] == 202


@BOTH_SERVERS
@pytest.mark.parametrize("sent", [b"POST /task HTTP/1.1\r\nHost", None], ids=["the head", "the body"])
def test_a_client_that_sends_a_byte_now_and_then_is_cut_off(queue: Queue, part: str, sent: bytes | None) -> None:
    """The deadlines are 1 s here. Each byte is activity, so a time-out for idle connections would not end it."""
    request = request_of("/task", b'{"payload": %b}' % (b" " * 60_000))
    begun = sent or request[:-50_000]
    with (
        served(part, queue.config.redis_url, deadlines_s=1) as producer,
        socket.create_connection(("127.0.0.1", producer.port), timeout=20) as connection,
    ):
        connection.sendall(begun)
        connection.settimeout(0.05)

        def ended() -> bool:
            try:
                connection.sendall(b" ")
                answer = connection.recv(65_536)
            except TimeoutError:
                return False
            except ConnectionError:
                return True
            return not answer or answer.startswith(b"HTTP/1.1 408 ")

        wait_until(ended, timeout_s=20)
        assert exchange(producer.port, HEALTHZ)[0] == 200


@pytest.mark.parametrize("sent", [0, 5], ids=["nothing", "a part"])
def test_a_body_that_does_not_come_is_a_408_under_granian_and_nothing_is_accepted(queue: Queue, sent: int) -> None:
    request = request_of("/task", b'{"payload": 1}')
    with (
        under_granian(queue.config.redis_url, "support.apps.hasty_producer:from_environment") as port,
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
    ):
        connection.sendall(request[: request.index(b"\r\n\r\n") + 4 + sent])
        answer = b""
        while data := connection.recv(65_536):
            answer += data
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"The body did not arrive within 1 s; send it at once. Nothing was accepted." in answer
        assert exchange(port, request)[0] == 202
    assert len(queue.pending()) == 1


def test_a_server_without_descriptors_left_neither_spins_nor_floods_its_log_under_asgi(queue: Queue) -> None:
    with served("asgi", queue.config.redis_url, descriptors=64) as producer, ExitStack() as opened:
        assert exchange(producer.port, request_of("/task", b'{"payload": 1}'))[0] == 202
        clients = [socket.create_connection(("127.0.0.1", producer.port), timeout=20) for _ in range(90)]
        for client in clients:
            opened.enter_context(client)
        running = psutil.Process(producer.process.pid)
        time.sleep(0.5)
        spent_s = sum(running.cpu_times()[:2])
        time.sleep(2)  # nothing happens in this time, which is what is measured
        assert sum(running.cpu_times()[:2]) - spent_s < 0.3
        for client in clients:
            client.close()

        def answers() -> bool:
            with suppress(ConnectionError, AssertionError):  # connections that the server could not accept are reset
                return exchange(producer.port, request_of("/task", b'{"payload": 1}'))[0] == 202
            return False

        wait_until(answers)
        assert producer.said().count("\n") < 20
