"""Failovers: a host name changes to the new primary while old sessions stay open, or Sentinel announces it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

import pytest
import redis
from support.processes.slow_link import SlowLink
from support.processes.worker_process import Pool
from support.waiting import wait_until
from zeroloss.system.servers import SentinelServer, Server

ANNOUNCED_S = 2.0  # limit from Sentinel's announcement to the next promise, and to the next completed task
SOON_S = 5.0  # at most 2 s are needed; a client that keeps the old session never recovers


def port_of(server: Server) -> int:
    return urlsplit(server.url).port or 0


@contextmanager
def producer_of(url: str, **environ: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "zeroloss.reference", "producer", "--redis", url, "--port", str(port)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environ},
    )
    try:
        yield f"http://127.0.0.1:{port}/task"
    finally:
        process.terminate()
        process.wait(30)


def post(url: str) -> int:
    body = json.dumps({"payload": None}).encode()
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})
    with suppress(URLError):
        try:
            return int(urllib.request.urlopen(request, timeout=10).status)
        except HTTPError as error:
            return error.code
    return 0


@pytest.mark.parametrize("how", ["REPLICAOF", "FAILOVER"])
def test_producer_and_worker_follow_a_planned_failover_though_their_old_sessions_stay_open(
    open_own_server: Callable[..., Server], start_pool: Callable[..., Pool], how: str
) -> None:
    old, new = open_own_server(appendfsync=None), open_own_server(appendfsync=None)
    with (
        redis.Redis.from_url(old.url) as on_old,
        redis.Redis.from_url(new.url, decode_responses=True) as on_new,
        SlowLink(port_of(old)) as link,
        producer_of(link.url) as url,
    ):
        on_new.replicaof("127.0.0.1", port_of(old))
        wait_until(lambda: on_new.info("replication")["master_link_status"] == "up", message="it does not replicate")
        start_pool("--app", "zeroloss.reference.demo", ZEROLOSS_REDIS_URL=link.url)
        wait_until(lambda: post(url) == 202, message="the producer accepts nothing")
        wait_until(lambda: on_old.hget("tasks:counters", "completed") == b"1", message="the worker does nothing")
        if how == "FAILOVER":
            on_old.execute_command("FAILOVER")
        else:
            on_new.replicaof("NO", "ONE")
            on_old.replicaof("127.0.0.1", port_of(new))
        wait_until(lambda: on_old.info("replication")["role"] == "slave", message="the old one is not a replica yet")
        wait_until(lambda: on_new.info("replication")["role"] == "master", message="the new one is not a primary yet")
        link.lead_to(port_of(new))
        wait_until(lambda: post(url) == 202, SOON_S, "the producer keeps to its old session")
        wait_until(
            lambda: on_new.hget("tasks:counters", "completed") == "2", SOON_S, "the worker keeps to its old session"
        )


@pytest.mark.parametrize("how", ["killed", "cut off"])
def test_producer_and_worker_follow_what_sentinel_announces_and_lose_nothing_that_a_replica_confirmed(
    open_own_server: Callable[..., Server], start_pool: Callable[..., Pool], how: str
) -> None:
    """A primary that is cut off does not answer, and its connections stay open."""
    server = open_own_server("sentinel", appendfsync="no")
    assert isinstance(server, SentinelServer)
    url, promised = server.sentinel_url, 0
    with producer_of(url, ZEROLOSS_DURABILITY="replicas:1", ZEROLOSS_DURABILITY_TIMEOUT_MS="500") as task:
        pool = start_pool("--app", "zeroloss.reference.demo", ZEROLOSS_REDIS_URL=url)
        wait_until(lambda: post(task) == 202, message="the producer accepts nothing")
        promised += 1
        wait_until(lambda: completed(server) == promised, message="the worker does nothing")
        children = [child.pid for child in pool.children()]
        server.await_replicated()
        server.kill() if how == "killed" else server.cut_off()
        wait_until(server.failed_over, 30, "Sentinel announces nothing")
        announced = time.monotonic()
        server.follow()
        wait_until(lambda: post(task) == 202, ANNOUNCED_S, "the producer keeps to the old primary")
        promised += 1
        left_s = ANNOUNCED_S - (time.monotonic() - announced)
        wait_until(lambda: completed(server) >= promised, left_s, "the worker keeps to the old primary")
        assert [child.pid for child in pool.children()] == children


def completed(server: Server) -> int:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        return int(client.hget("tasks:counters", "completed") or 0)
