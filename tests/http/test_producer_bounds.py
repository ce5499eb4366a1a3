"""What a request may cost: a body is refused before more of it is decoded than a task, or a batch, may have."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

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
)
from support.queue_fixtures import Queue, payloads
from support.waiting import wait_until
from zeroloss.reference.http import submissions
from zeroloss.reference.http.submissions import ENVELOPE_BYTES, split_lines

HEALTHZ = b"GET /healthz HTTP/1.1\r\n\r\n"


def filled(unit: bytes, size_bytes: int) -> bytes:
    return unit * (size_bytes // len(unit))


def names(size_bytes: int) -> bytes:
    return b"{%b}" % b",".join(b'"%06d":1' % number for number in range(size_bytes // 11))


def costly(size_bytes: int) -> dict[str, tuple[str, str, bytes]]:
    """Bodies that are much larger when they are decoded: path, media type, body."""
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
    """How many bytes each reading of a task was given."""
    lengths: list[int] = []

    def noting(text: bytes, what: str, key: str | None) -> Any:
        lengths.append(len(text))
        return submissions.read_submission(text, what, key)

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
    tasks = [b'{"payload": 1}'] * 3 + [b"this is no JSON and nobody reads it"]
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


def test_empty_lines_are_no_items_however_many_there_are() -> None:
    assert list(split_lines(b"\n\n \t\r\n 1 \n\n2\n" + b"\n" * 1_000)) == [b"1", b"2"]


@pytest.mark.parametrize(
    "name", ["an array in the payload", "a batch of one array", "lines of numbers", "names that no task has"]
)
def test_sixteen_bodies_that_grow_when_decoded_cost_little_memory_and_give_it_back(queue: Queue, name: str) -> None:
    """Decoded whole, each of them takes hundreds of megabytes, and the process answers nothing for minutes."""
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
    """`VmRSS`: what it holds now; `VmHWM`: the most that it ever held."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(rf"^{member}:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) // 1024
