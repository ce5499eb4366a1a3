"""The health server of a pool's parent: slow clients neither stay nor keep a probe out."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from support.waiting import wait_until
from zeroloss.reference.worker import health

CONNECTIONS_MAX = 8


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def connect(clients: ExitStack, port: int) -> socket.socket:
    made = clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
    made.sendall(b"GET /health HTTP/1.0\r\n")
    return made


def serving() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def is_closed_after_a_byte(client: socket.socket) -> bool:
    try:
        client.sendall(b"x")
        client.setblocking(False)
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_request_has_one_deadline_however_often_its_client_sends_a_byte(
    monkeypatch: pytest.MonkeyPatch, clients: ExitStack
) -> None:
    monkeypatch.setattr(health, "TIMEOUT_S", 0.5)
    client = connect(clients, health.serve_health("127.0.0.1", 0, list))
    wait_until(lambda: is_closed_after_a_byte(client), timeout_s=5)
    wait_until(lambda: serving() == 0, timeout_s=5)


def test_slow_clients_hold_a_bounded_number_of_threads_and_keep_no_probe_out(
    monkeypatch: pytest.MonkeyPatch, clients: ExitStack, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(health, "TIMEOUT_S", 60.0)
    monkeypatch.setattr(health, "CONNECTIONS_MAX", CONNECTIONS_MAX)
    port = health.serve_health("127.0.0.1", 0, list)
    slow = [connect(clients, port) for _ in range(5 * CONNECTIONS_MAX)]
    for _ in range(3):
        assert health.ask_health("127.0.0.1", port) == []
    wait_until(lambda: serving() <= CONNECTIONS_MAX, timeout_s=5)
    assert is_closed_after_a_byte(slow[0])
    assert not is_closed_after_a_byte(slow[-1])
    assert capfd.readouterr().err == ""
