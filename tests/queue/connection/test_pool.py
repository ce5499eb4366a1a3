"""The connection pool while several threads, or a forked process, use it at the same moment."""

import os
import select
import signal
import threading
from typing import Any

import pytest
import redis
from redis._parsers.socket import SocketBuffer
from support.queue_fixtures import Queue
from support.waiting import wait_until
from zeroloss.reference.queue import task
from zeroloss.reference.queue.connection import borrowed, connect
from zeroloss.reference.queue.enqueuing import submission
from zeroloss.reference.queue.enqueuing.submission import LARGE, Submission
from zeroloss.reference.queue.servers.pool import Pool

MEANWHILE_S = 0.5  # how long a close waits for another thread, which comes this far only if it is not kept out


def pool_of(client: redis.Redis) -> Pool:
    pool = client.connection_pool
    assert isinstance(pool, Pool)
    return pool


def test_a_connection_that_another_thread_checks_is_not_closed_by_a_close_of_idle_ones(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect(queue.config, connections=1)
    client.ping()
    checking, closed = threading.Event(), threading.Event()
    results: list[Any] = []

    def ask() -> None:
        try:
            results.append(client.ping())
        except Exception as error:  # noqa: BLE001  that is what is tested
            results.append(error)

    def can_read(self: Any, timeout: float = 0) -> bool:
        checking.set()
        assert closed.wait(30)
        return bool(plain_check(self, timeout))

    def disconnect(self: Any, *arguments: Any, **options: Any) -> None:
        if not other.ident:
            other.start()
            checking.wait(MEANWHILE_S)
        plain_disconnect(self, *arguments, **options)

    other = threading.Thread(target=ask)
    plain_check, plain_disconnect = SocketBuffer.can_read, redis.Connection.disconnect
    monkeypatch.setattr(SocketBuffer, "can_read", can_read)
    monkeypatch.setattr(redis.Connection, "disconnect", disconnect)
    pool_of(client)._close_idle()
    closed.set()
    other.join(30)
    assert results == [True]


def test_a_connection_that_redis_closed_is_closed_before_another_thread_can_get_it(queue: Queue) -> None:
    client = connect(queue.config, connections=2)
    pool = pool_of(client)
    with borrowed(client) as connection:
        connection.send_command("CLIENT", "ID")
        number = connection.read_response()
    queue.client.client_kill_filter(_id=number)
    wait_until(lambda: select.select([connection._sock], [], [], 0)[0], message="the end has not arrived")
    assert pool.idle_connection() is None
    assert [each for each in pool.pool.queue if each and each.is_connected] == []


def test_the_places_of_a_pool_are_all_there_after_closes_in_the_middle_of_its_use(queue: Queue) -> None:
    client = connect(queue.config, connections=3)
    pool = pool_of(client)
    errors: list[Exception] = []

    def ask() -> None:
        try:
            for _ in range(100):
                client.ping()
        except Exception as error:  # noqa: BLE001  that is what is tested
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        pool._close_idle()
    assert errors == []
    assert len(pool.pool.queue) + len(pool._used) == 3


@pytest.mark.parametrize("name", ["gate", "turn to decode", "clock of ids"])
def test_a_forked_child_enqueues_though_a_thread_of_its_parent_held_a_lock_at_the_fork(queue: Queue, name: str) -> None:
    locks: dict[str, Any] = {
        "gate": pool_of(queue.own_client).gate._changed,
        "turn to decode": submission._turn,
        "clock of ids": task._id_clock._lock,
    }
    large = Submission(payload_json=f'"{"x" * LARGE}"', idempotency_key="k")
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with locks[name]:
            held.set()
            forked.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5)  # not a thread with a deadline: that may get the number of the one that holds the lock
        os._exit(0 if queue.enqueuer.enqueue(large) else 1)
    forked.set()
    thread.join(30)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
