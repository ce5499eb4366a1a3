"""A planned failover: the name leads to the new primary, while old sessions stay on what is a replica now."""

import json
import socket
import subprocess
import sys
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
from zeroloss.system.servers import Server

SOON_S = 5.0  # it takes two at the most; whoever keeps to the old session never comes back


def port_of(server: Server) -> int:
    return urlsplit(server.url).port or 0


@contextmanager
def producer_of(url: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "zeroloss.reference", "producer", "--redis", url, "--port", str(port)],
        stderr=subprocess.DEVNULL,
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
        wait_until(lambda: on_old.info("replication")["role"] == "slave", message="the old one is no replica yet")
        wait_until(lambda: on_new.info("replication")["role"] == "master", message="the new one is no primary yet")
        link.lead_to(port_of(new))
        wait_until(lambda: post(url) == 202, SOON_S, "the producer keeps to its old session")
        wait_until(
            lambda: on_new.hget("tasks:counters", "completed") == "2", SOON_S, "the worker keeps to its old session"
        )
