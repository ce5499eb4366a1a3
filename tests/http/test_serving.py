"""A server process of the producer or the monitor: connections, its own answers, and its end."""

import json
import signal
import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil
import pytest
from support.processes.over_http import Served, assert_problem_document, exchange, request_of, served
from support.queue_fixtures import Queue, ids
from support.waiting import wait_until
from zeroloss.reference.http.servers.by_waitress import DROPPED_BYTES_MAX

TASK = b'{"payload": 1}'
HEALTHZ = b"GET /healthz HTTP/1.1\r\n\r\n"


def test_the_producer_process_promises_tasks_and_ends_with_status_0_on_sigterm(queue: Queue) -> None:
    with served("producer", queue.config.redis_url) as producer:
        status, _, answer = exchange(producer.port, request_of("/task", TASK))
        assert (status, json.loads(answer)["status"]) == (202, "queued")
        producer.process.send_signal(signal.SIGTERM)
        assert producer.process.wait(timeout=10) == 0
    assert len(queue.pending()) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopping_producer_finishes_its_running_requests(queue: Queue, number: signal.Signals) -> None:
    """Redis is paused, so the request is certainly running when the signal comes."""
    with served("producer", queue.config.redis_url) as producer, ThreadPoolExecutor(1) as pool:
        connected = HTTPConnection("127.0.0.1", producer.port)
        connected.request("GET", "/healthz")
        connected.getresponse().read()  # an idle connection must not delay the stop
        queue.client.client_pause(10_000, all=False)
        try:
            running = pool.submit(exchange, producer.port, request_of("/task", TASK))
            wait_for_blocked_client(queue)
            producer.process.send_signal(number)
            producer.process.send_signal(number)  # a second signal changes nothing
            assert connected.sock.recv(1) == b""  # the stop has begun
        finally:
            queue.client.client_unpause()
        assert running.result(timeout=10)[0] == 202
        assert producer.process.wait(timeout=10) == 0
        connected.close()
    assert len(queue.pending()) == 1


def test_a_stopping_producer_reads_a_request_that_has_begun_to_its_end(queue: Queue) -> None:
    request = request_of("/task", TASK, "Expect: 100-continue")
    head = request.index(b"\r\n\r\n") + 4
    with (
        served("producer", queue.config.redis_url) as producer,
        socket.create_connection(("127.0.0.1", producer.port), timeout=20) as idle,
        socket.create_connection(("127.0.0.1", producer.port), timeout=20) as begun,
    ):
        begun.sendall(request[:head])
        assert begun.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        producer.process.send_signal(signal.SIGTERM)
        assert idle.recv(1) == b"", "the stop has begun"
        begun.sendall(request[head:])
        assert begun.recv(65_536).startswith(b"HTTP/1.1 202 ")
        assert producer.process.wait(timeout=10) == 0


def test_an_answer_comes_in_one_piece(queue: Queue) -> None:
    with (
        served("producer", queue.config.redis_url) as producer,
        socket.create_connection(("127.0.0.1", producer.port), timeout=20) as connection,
    ):
        for payload in (b"1", b"2"):
            connection.sendall(request_of("/task", b'{"id": "t%b", "payload": %b}' % (payload, payload)))
            assert connection.recv(65_536).endswith(b'{"task_id":"t%b","status":"queued"}' % payload)


def test_a_request_whose_head_comes_alone_is_answered_once_its_body_has_come(queue: Queue) -> None:
    request = request_of("/task", b'{"id": "t1", "payload": 1}')
    head = request.index(b"\r\n\r\n") + 4
    with (
        served("producer", queue.config.redis_url) as producer,
        socket.create_connection(("127.0.0.1", producer.port), timeout=20) as connection,
    ):
        connection.sendall(request[:head])  # Nagle's algorithm is on: the rest waits for the acknowledgement
        connection.sendall(request[head:])
        assert connection.recv(65_536).startswith(b"HTTP/1.1 202 ")


def test_many_connections_at_once_lose_and_invent_nothing(queue: Queue) -> None:
    with served("producer", queue.config.redis_url) as producer:
        barrier = threading.Barrier(16)

        def send(sender: int) -> list[str]:
            connection = HTTPConnection("127.0.0.1", producer.port)
            barrier.wait()
            promised = []
            for number in range(10):
                body = json.dumps({"id": f"{sender}-{number}", "payload": number})
                connection.request("POST", "/task", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                assert answer.status == 202
                promised.append(json.loads(answer.read())["task_id"])
            connection.close()
            return promised

        with ThreadPoolExecutor(16) as pool:
            promised = [task_id for ids_of_one in pool.map(send, range(16)) for task_id in ids_of_one]
    assert sorted(ids(queue.pending())) == sorted(promised)


def test_the_server_refuses_what_is_too_large_or_no_http_with_problem_documents(queue: Queue) -> None:
    big = b'{"payload": "%b"}' % (b"x" * 3_000_000)  # larger than the kernel's buffers
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(big), big)
    small = b"7d1\r\n%b\r\n0\r\n\r\n" % (b"x" * 2_001)
    json_type = b"Content-Type: application/json\r\n"
    requests = {
        "a length": b"POST /task HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (json_type, len(big), big),
        "chunked": b"POST /task HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n%b" % (json_type, chunked),
        "chunked, in one piece": b"POST /task HTTP/1.1\r\n%bTransfer-Encoding: chunked\r\n\r\n%b" % (json_type, small),
        "one byte": b"POST /task HTTP/1.1\r\n%bContent-Length: 2001\r\n\r\n%b" % (json_type, b"x" * 2_001),
        "no http": b"GET / / HTTP/1.1\r\nHost x\r\n\r\n",
        "long header": b"GET /healthz HTTP/1.1\r\nX: %b\r\n\r\n" % (b"x" * 300_000),
        "encoding": b"POST /task HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    }
    statuses = {"no http": 400, "long header": 431, "encoding": 501}
    with served("producer", queue.config.redis_url, max_task_bytes=1_000, max_body_bytes=2_000) as producer:
        for name, request in requests.items():
            status, headers, body = exchange(producer.port, request)
            assert headers["content-type"] == "application/problem+json", name
            kind = None if name in statuses else "too-large"
            words = [] if name in statuses else ["more than 2000 bytes"]
            assert_problem_document(json.loads(body), statuses.get(name, 413), *words, kind=kind)
            assert status == statuses.get(name, 413)
        assert exchange(producer.port, HEALTHZ)[0] == 200
    assert set(queue.everything()) <= {"tasks:protocol"}


def test_a_chunked_body_is_read_like_any_other(queue: Queue) -> None:
    chunks = b"5\r\n%b\r\n9\r\n%b\r\n0\r\n\r\n" % (TASK[:5], TASK[5:])
    head = b"POST /task HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with served("producer", queue.config.redis_url) as producer:
        assert exchange(producer.port, head + chunks)[0] == 202
    assert len(queue.pending()) == 1


def test_a_client_that_vanishes_in_the_middle_of_its_body_queues_nothing(queue: Queue) -> None:
    half = b'POST /tasks HTTP/1.1\r\nContent-Type: application/x-ndjson\r\nContent-Length: 1000\r\n\r\n{"payload": 1}\n'
    with served("producer", queue.config.redis_url) as producer:
        with socket.create_connection(("127.0.0.1", producer.port)) as connection:
            connection.sendall(half)
        assert exchange(producer.port, b"GET /readyz HTTP/1.1\r\n\r\n")[0] == 200
    assert set(queue.everything()) <= {"tasks:protocol", "tasks:counters"}


@pytest.mark.parametrize("much", [DROPPED_BYTES_MAX, 10 * DROPPED_BYTES_MAX], ids=["just as much", "ten times"])
def test_a_body_too_large_is_read_up_to_64_megabytes_and_then_refused(queue: Queue, much: int) -> None:
    head = b"POST /task HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % much
    piece, sent = b"x" * 1_048_576, 0
    with (
        served("producer", queue.config.redis_url) as producer,
        socket.create_connection(("127.0.0.1", producer.port), timeout=20) as connection,
    ):
        connection.sendall(head)
        with suppress(ConnectionError):
            while sent < much:
                connection.sendall(piece)
                sent += len(piece)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 413 ")
    assert DROPPED_BYTES_MAX <= sent < 2 * DROPPED_BYTES_MAX


def test_a_body_that_is_too_large_is_not_kept_while_it_is_read(queue: Queue) -> None:
    """waitress keeps up to half a megabyte in memory, and a longer body in an unlinked file."""
    head = b"POST /task HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 30000000\r\n\r\n"
    with (
        served("producer", queue.config.redis_url, max_task_bytes=1_000, max_body_bytes=2_000) as producer,
        socket.create_connection(("127.0.0.1", producer.port), timeout=20) as connection,
    ):
        connection.sendall(head + b"x" * 20_000_000)  # far above the kernel's buffers: most of it was read
        opened = [str(path.readlink()) for path in Path(f"/proc/{producer.process.pid}/fd").iterdir()]
    assert [name for name in opened if name.endswith("(deleted)")] == []


def test_an_address_that_cannot_be_used_is_reported_in_one_sentence(queue: Queue) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for host, number, reason in [
            ("127.0.0.1", port, f"Cannot listen on 127.0.0.1:{port}: Address already in use."),
            ("127.0.0.1", 65_536, "The port must be 0 to 65535, not 65536."),
            ("two..dots", 0, r"Cannot listen on two\.\.dots:0: it is not a name of a host\."),
            ("nowhere.invalid", 0, r"Cannot listen on nowhere.invalid:0: \w[^.]*\."),
        ]:
            with (
                pytest.raises(AssertionError, match=rf"ConfigError: {reason}\n"),
                served("producer", queue.config.redis_url, host=host, port=number),
            ):
                pass


def test_an_ipv6_address_is_shown_in_brackets_so_that_it_can_be_opened(queue: Queue) -> None:
    with served("producer", queue.config.redis_url, host="::1") as producer:
        assert producer.url == f"http://[::1]:{producer.port}"
        with urlopen(f"{producer.url}/healthz") as answer:
            assert answer.status == 200


def test_an_answer_does_not_tell_what_serves_it(queue: Queue) -> None:
    with served("producer", queue.config.redis_url) as producer:
        _, headers, _ = exchange(producer.port, HEALTHZ)
    assert set(headers) == {
        "cache-control",
        "content-length",
        "content-type",
        "date",
        "x-content-type-options",
    }


def test_sixteen_requests_wait_for_redis_at_a_time_and_the_next_wait_in_silence(queue: Queue) -> None:
    with served("producer", queue.config.redis_url) as producer, ThreadPoolExecutor(24) as pool:
        send = lambda: pool.submit(exchange, producer.port, request_of("/task", TASK))  # noqa: E731
        queue.client.client_pause(60_000, all=False)
        try:
            answers: list[Future[Any]] = [send() for _ in range(16)]
            wait_until(lambda: queue.client.info("clients")["blocked_clients"] == 16)
            answers += [send() for _ in range(8)]
            wait_until(lambda: clients_of(producer) == 24)
        finally:
            queue.client.client_unpause()
        assert [answer.result(20)[0] for answer in answers] == [202] * 24
        assert producer.said() == ""


def test_a_hundred_idle_clients_keep_nobody_out(queue: Queue) -> None:
    with served("producer", queue.config.redis_url) as producer, ExitStack() as opened:
        for _ in range(110):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", producer.port), timeout=20))
            connection.sendall(HEALTHZ)
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert exchange(producer.port, HEALTHZ)[0] == 200


@pytest.mark.parametrize("part", ["producer", "monitor"])
@pytest.mark.parametrize("when", ["from the start", "while it runs"])
def test_without_file_descriptors_it_neither_spins_nor_floods_its_log_and_comes_back(
    part: str, when: str, queue: Queue
) -> None:
    """90 clients and 64 descriptors. A spinning loop would use all processor time that it gets."""
    request = request_of("/task", TASK) if part == "producer" else b"GET /stats HTTP/1.1\r\n\r\n"
    descriptors = 64 if when == "from the start" else 0
    with served(part, queue.config.redis_url, descriptors=descriptors) as process, ExitStack() as opened:
        assert exchange(process.port, request)[0] in (200, 202)
        running = psutil.Process(process.process.pid)
        running.rlimit(psutil.RLIMIT_NOFILE, (64, 64))
        address = ("127.0.0.1", process.port)
        clients = [opened.enter_context(socket.create_connection(address, timeout=20)) for _ in range(90)]
        wait_until(process.said)
        spent_s = sum(running.cpu_times()[:2])
        time.sleep(2)  # nothing happens in this time, which is what is measured
        assert sum(running.cpu_times()[:2]) - spent_s < 0.3
        if when == "from the start":  # some descriptors are kept for Redis
            clients[0].sendall(request)
            assert clients[0].recv(65_536).split()[1] in (b"200", b"202")
        for client in clients:  # each close makes room for a waiting client
            client.close()
        assert exchange(process.port, request)[0] in (200, 202)
        wait_until(lambda: process.said().count("\n") > 1, timeout_s=20)
        first, last = process.said().splitlines()
    assert (
        first
        == {
            "from the start": "All 16 connections are in use; new ones wait until one closes.",
            "while it runs": "No connection can be accepted (Too many open files); new ones wait until others close.",
        }[when]
    )
    assert last == "Connections are accepted again."


def test_clients_that_come_all_at_once_are_not_turned_away(queue: Queue) -> None:
    """The producer is stopped until all clients have connected."""
    with served("producer", queue.config.redis_url) as producer, ExitStack() as opened:
        producer.process.send_signal(signal.SIGSTOP)
        for _ in range(200):
            opened.enter_context(socket.create_connection(("127.0.0.1", producer.port), timeout=5))
        producer.process.send_signal(signal.SIGCONT)
        assert exchange(producer.port, HEALTHZ)[0] == 200


def wait_for_blocked_client(queue: Queue) -> None:
    wait_until(lambda: queue.client.info("clients")["blocked_clients"] > 0)


def clients_of(served_by: Served) -> int:
    """Return the number of open connections that the server has accepted."""
    found = psutil.Process(served_by.process.pid).net_connections("tcp")
    return sum(each.laddr.port == served_by.port and each.status == psutil.CONN_ESTABLISHED for each in found)
