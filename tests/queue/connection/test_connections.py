"""The queue's own client: it repeats no command, and checks a reused connection cheaply."""

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
import redis
from support.processes.slow_link import SlowLink
from support.queue_fixtures import Queue
from support.waiting import wait_until
from zeroloss.reference.http.readiness import connect_probe
from zeroloss.reference.queue import connection as connection_module
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import Script, borrowed, connect, packed
from zeroloss.reference.queue.errors import ConfigError
from zeroloss.system.servers import Server


@pytest.mark.parametrize(
    "url",
    [
        "http://:secret@host:1/0",
        "redis://:secret@host:port/0",
        "http://:my@secret@host:1/0",
        "redis://:secret/half@host:1/0",
    ],
)
def test_an_invalid_url_is_reported_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError, match=r"redis_url '\.\.\.@host:(1|port)/0' is not a Redis URL") as caught:
        connect(Config(redis_url=url))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("option", ["password=secret", "password=half@secret"])
def test_an_invalid_url_with_options_is_not_shown(option: str) -> None:
    with pytest.raises(ConfigError, match=r"redis_url '\.\.\.' is not a Redis URL") as caught:
        connect(Config(redis_url=f"redis://host:port/0?{option}"))
    assert "secret" not in str(caught.value)


def test_an_invalid_url_without_a_password_is_reported_whole() -> None:
    with pytest.raises(ConfigError, match=r"redis_url 'http://host:1/0' is not a Redis URL"):
        connect(Config(redis_url="http://host:1/0"))


def test_a_connection_that_was_used_is_the_next_ones(queue: Queue) -> None:
    with borrowed(queue.own_client) as first:
        first.send_command("PING")
        first.read_response()
    with borrowed(queue.own_client) as second:
        assert second is first


def test_a_connection_that_is_used_again_is_not_asked_whether_it_stands(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    # redis-py's check makes the socket non-blocking, reads, and makes it blocking again, as slow as a short command.
    queue.own_client.ping()
    looks: list[float] = []
    monkeypatch.setattr(redis.Connection, "can_read", lambda _self, timeout=0: bool(looks.append(timeout)))
    queue.own_client.ping()
    assert looks == []


def test_a_connection_that_redis_closed_is_opened_again_before_a_command_is_sent(queue: Queue) -> None:
    with borrowed(queue.own_client) as connection:
        connection.send_command("CLIENT", "ID")
        number = connection.read_response()
    queue.client.client_kill_filter(_id=number)
    wait_until(lambda: select.select([connection._sock], [], [], 0)[0], message="the end has not arrived")
    assert queue.own_client.client_id() != number


def test_a_connection_on_which_something_unread_waits_is_opened_again(queue: Queue) -> None:
    with borrowed(queue.own_client) as connection:
        connection.send_command("ECHO", "another user's")
        wait_until(lambda: select.select([connection._sock], [], [], 0)[0], message="no reply came")
    assert queue.own_client.echo("mine") == b"mine"


def test_a_connection_that_broke_in_use_is_not_handed_on(queue: Queue) -> None:
    with pytest.raises(redis.ConnectionError), borrowed(queue.own_client) as connection:
        connection.disconnect()
        raise redis.ConnectionError("as a lost reply does")
    assert queue.own_client.ping()


def numbers(client: redis.Redis, count: int) -> set[int]:
    """Return the server's ids of `count` connections of the client; the connections are idle afterwards."""
    with ExitStack() as held:
        connections = [held.enter_context(borrowed(client)) for _ in range(count)]
        for connection in connections:
            connection.send_command("CLIENT", "ID")
        return {connection.read_response() for connection in connections}


ERROR = Script("return redis.error_reply(ARGV[1])")
LEADS_ASTRAY = pytest.mark.parametrize(
    "error", ["READONLY no", "LOADING yes", "MASTERDOWN yes", "MOVED 1 127.0.0.1:1"], ids=lambda text: text.split()[0]
)


@LEADS_ASTRAY
def test_after_an_error_that_shows_the_wrong_server_every_connection_is_opened_again(queue: Queue, error: str) -> None:
    before = numbers(queue.own_client, 3)
    with pytest.raises(redis.RedisError):
        ERROR(queue.own_client, [], [error])
    assert not numbers(queue.own_client, 3) & before
    before = numbers(queue.own_client, 3)
    with pytest.raises(redis.RedisError):  # through a command of the library
        queue.own_client.eval(ERROR.source, 0, error)
    assert not numbers(queue.own_client, 3) & before


@LEADS_ASTRAY
def test_a_connection_in_use_while_another_met_the_wrong_server_is_closed_when_it_comes_back(
    queue: Queue, error: str
) -> None:
    with borrowed(queue.own_client) as connection:
        connection.send_command("CLIENT", "ID")
        number = connection.read_response()
        with pytest.raises(redis.RedisError):
            ERROR(queue.own_client, [], [error])
    assert number not in numbers(queue.own_client, 3)


def test_a_refusal_that_says_nothing_of_the_server_closes_no_connection(queue: Queue) -> None:
    before = numbers(queue.own_client, 3)
    with pytest.raises(redis.ResponseError):
        ERROR(queue.own_client, [], ["WRONGTYPE no"])
    assert numbers(queue.own_client, 3) == before


def test_after_one_time_out_no_other_connection_is_waited_for(
    open_own_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, standing = open_own_server(appendfsync=None), open_own_server(appendfsync=None)
    with SlowLink(urlsplit(hanging.url).port or 0) as link:
        config = Config(redis_url=link.url)
        monkeypatch.setattr(Config, "socket_timeout_ms", 200)  # instead of seconds
        client = connect(config)
        numbers(client, 3)
        hanging.pause()
        link.lead_to(urlsplit(standing.url).port or 0)
        with pytest.raises(redis.TimeoutError):
            client.ping()
        assert len(numbers(client, 3)) == 3  # all lead to the other server
        hanging.resume()


def test_the_limit_of_connections_holds_and_nobody_waits_in_vain(queue: Queue) -> None:
    client = connect(replace(queue.config, redis_url=f"{queue.config.redis_url}?client_name=limited"), connections=3)
    most: list[str] = []
    done = []

    def ask() -> None:
        for _ in range(100):
            client.ping()
        done.append(True)

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        connected = [entry["id"] for entry in queue.client.client_list() if entry["name"] == "limited"]
        most = max(most, connected, key=len)
        time.sleep(0.001)
    assert len(done) == 12
    assert 1 <= len(most) <= 3


def test_a_forked_child_does_not_speak_on_its_parents_connections(queue: Queue) -> None:
    mine = queue.own_client.client_id()
    child = os.fork()
    if child == 0:
        os._exit(0 if queue.own_client.client_id() != mine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert queue.own_client.client_id() == mine


def test_a_redis_that_does_not_answer_is_waited_for_as_long_as_configured(
    open_own_server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = open_own_server(appendfsync=None)
    config = Config(redis_url=server.url)
    monkeypatch.setattr(Config, "socket_timeout_ms", 200)  # instead of seconds
    with connect(config) as client:
        client.ping()
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()


def test_a_redis_that_does_not_take_the_connection_is_not_waited_for_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "CONNECT_TIMEOUT_S", 0.2)
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # more than the kernel accepts for a listener that never accepts
            knocking = waiting.enter_context(socket.socket())
            knocking.setblocking(False)
            knocking.connect_ex(full.getsockname())
        with (
            connect(Config(redis_url=f"redis://127.0.0.1:{full.getsockname()[1]}/0")) as client,
            pytest.raises(redis.TimeoutError, match="connecting"),
        ):
            client.ping()


def test_a_connection_has_the_queues_time_limits_and_is_kept_alive() -> None:
    """With the library's own limits the tests above would pass too, but later."""
    config = Config(block_ms=2_000)
    connection = connect(config).connection_pool.make_connection()
    assert (connection.socket_timeout, connection.socket_connect_timeout) == (7.0, 5.0)
    assert connection.socket_keepalive
    assert not connection.health_check_interval


def test_a_reader_gives_up_within_a_second() -> None:
    probe = connect_probe(Config()).connection_pool.make_connection()
    assert (probe.socket_timeout, probe.socket_connect_timeout) == (1.0, 1.0)


def test_redis_py_still_has_what_the_pool_takes_from_its_inside() -> None:
    """All private names of the library that the pool uses; `pyproject.toml` excludes releases that may drop them."""
    gone = [name for name in ("_checkpid",) if not hasattr(redis.BlockingConnectionPool, name)]
    gone += [name for name in ("_sock",) if not hasattr(redis.Connection(), name)]
    assert gone == [], f"redis-py {redis.__version__} has no {gone} any more: look at connection.py"


def test_a_command_is_packed_as_redis_py_packs_it(queue: Queue) -> None:
    connection = queue.own_client.connection_pool.get_connection()
    for command in (("GET", "é\u2028"), ("BLPOP", "bell", 0.25), ("EVALSHA", "", 0, 12, -3, b"\x00\r\n", b"")):
        assert packed(*command) == b"".join(connection.pack_command(*command))


def test_a_script_is_known_by_the_digest_that_the_server_gives_it(queue: Queue) -> None:
    script = Script("return ARGV[1]")
    assert queue.client.script_load(script.source) == script.digest
