"""The proxy between a worker and a real server: it relays, counts, and acts at the requested crash point."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.waiting import wait_until
from zeroloss.system.processes import spawn
from zeroloss.system.proxy import Link, Listener, Phase, Point, Proxy, Strike, StrikeKind
from zeroloss.system.proxy.peers import Ends, owner
from zeroloss.system.servers import Server

SHARES_PORT = """
import socket, sys, time
mine = socket.socket()
mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
mine.bind(("127.0.0.1", int(sys.argv[1])))
mine.connect(("127.0.0.1", int(sys.argv[2])))
time.sleep(60)
"""
SET_TWICE = """
import os, signal, redis
client = redis.Redis.from_url(os.environ["REDIS_URL"])
for number in (1, 2):
    client.set("step", number)
    print("saw", number, flush=True)
signal.pause()
"""


@pytest.fixture
def direct(embedded: Server) -> Iterator[redis.Redis]:
    """A client that bypasses the proxy."""
    with redis.Redis.from_url(embedded.url) as connected:
        connected.flushall()
        yield connected


@pytest.fixture
def proxy(embedded: Server) -> Iterator[Proxy]:
    with Proxy(embedded.url) as running:
        yield running
    assert running.failure is None


@pytest.fixture
def listener(proxy: Proxy) -> Listener:
    return proxy.listen(recording=True)


@pytest.fixture
def through(listener: Listener, direct: redis.Redis) -> Iterator[redis.Redis]:
    """A client through the proxy, with one connection and without retries."""
    with connected(listener) as client:
        yield client


def connected(listener: Listener, **options: Any) -> redis.Redis:
    given = {"retry": Retry(NoBackoff(), 0), "socket_timeout": 10, **options}
    return redis.Redis.from_url(listener.url, single_connection_client=True, **given)


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_bytes_that_pass_are_not_changed(listener: Listener, direct: redis.Redis, protocol: int) -> None:
    with connected(listener, protocol=protocol) as client:
        odd = bytes(range(256)) * 5_000 + b"\r\n*1\r\n$"
        client.set("odd", odd)
        assert client.get("odd") == direct.get("odd") == odd
        client.hset("h", mapping={"a": "1", "b": "2"})
        assert client.hgetall("h") == {b"a": b"1", b"b": b"2"}
        assert client.eval("return {1, {'x', {}}, false}", 0) == [1, [b"x", []], None]


def test_a_pipeline_is_answered_in_its_order(through: redis.Redis) -> None:
    pipeline = through.pipeline(transaction=False)
    for number in range(2_000):
        pipeline.echo(str(number))
    assert pipeline.execute() == [b"%d" % number for number in range(2_000)]


def test_a_blocking_command_holds_up_no_other_connection(
    through: redis.Redis, listener: Listener, direct: redis.Redis
) -> None:
    answers: list[Any] = []
    with connected(listener) as waiting:
        thread = threading.Thread(target=lambda: answers.append(waiting.blpop(["list"], timeout=10)))
        thread.start()
        wait_until(lambda: listener.counts().get(("BLPOP", "BLPOP")))
        assert through.ping()
        direct.lpush("list", "x")
        thread.join(30)
    assert answers == [(b"list", b"x")]


def test_published_messages_are_relayed(listener: Listener, direct: redis.Redis) -> None:
    with connected(listener) as client, client.pubsub() as subscription:
        subscription.subscribe("news")
        wait_until(lambda: direct.publish("news", "hello"))
        wait_until(lambda: (subscription.get_message() or {}).get("data") == b"hello")


def test_commands_are_counted_by_the_role_of_their_connection(
    through: redis.Redis, listener: Listener, proxy: Proxy
) -> None:
    through.get("a")
    through.incr("b")
    through.incr("b")
    with connected(listener) as other:
        other.incr("b")
    assert [str(point) for point in listener.seen] == ["GET/GET#1", "GET/INCRBY#1", "GET/INCRBY#2", "INCRBY/INCRBY#1"]
    assert listener.counts()["*", "INCRBY"] == 3


def test_the_owner_of_a_connection_is_found_where_a_stranger_s_has_the_same_port(tmp_path: Path) -> None:
    """One local port may have several connections, to different destinations."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        mine = socket.socket()
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        mine.bind(("127.0.0.1", 0))
        mine.connect(one.getsockname())
        port = mine.getsockname()[1]
        command = [sys.executable, "-c", SHARES_PORT, str(port), str(other.getsockname()[1])]
        stranger = spawn(command, role="worker", log_path=tmp_path / "log")
        try:
            other.settimeout(20)
            accepted, (_, theirs) = other.accept()
            assert theirs == port
            for candidates in ([os.getpid(), stranger.pid], [stranger.pid, os.getpid()]):
                assert owner((port, one.getsockname()[1]), candidates) == os.getpid()
                assert owner((port, other.getsockname()[1]), candidates) == stranger.pid
            accepted.close()
        finally:
            stranger.kill_session()
            mine.close()


@pytest.mark.parametrize(("phase", "stored", "seen"), [("before", b"1", 1), ("executed", b"2", 1), ("after", b"2", 2)])
def test_a_worker_is_killed_at_the_point_and_in_the_phase(
    listener: Listener, direct: redis.Redis, tmp_path: Path, phase: str, stored: bytes, seen: int
) -> None:
    owners: list[int | None] = []

    def kill(ends: Ends) -> None:
        owners.append(owner(ends, worker.members()))
        worker.kill_session()

    listener.arm(Strike(point=Point("*", "SET", 2), kind=StrikeKind.KILL, phase=Phase(phase), kill=kill))
    worker = spawn(
        [sys.executable, "-c", SET_TWICE],
        role="worker",
        log_path=tmp_path / "log",
        env={"REDIS_URL": listener.url, "PATH": "/usr/bin:/bin"},
    )
    try:
        assert worker.wait(20) == -signal.SIGKILL
        wait_until(lambda: listener.dead)
        assert owners == [worker.pid]
        assert direct.get("step") == stored
        # After the reply the worker may or may not have logged it.
        assert f"saw {seen}" in worker.log_tail() or phase == "after"
        assert phase == "after" or "saw 2" not in worker.log_tail()
    finally:
        worker.kill_session()


def test_the_commands_that_follow_a_point_in_a_pipeline_do_not_pass(
    through: redis.Redis, listener: Listener, direct: redis.Redis
) -> None:
    listener.arm(Strike(point=Point("SET", "SET", 2), kind=StrikeKind.RESET, phase=Phase.EXECUTED))
    pipeline = through.pipeline(transaction=False)
    for name in "abc":
        pipeline.set(name, 1)
    with pytest.raises(redis.ConnectionError):
        pipeline.execute()
    assert direct.mget("a", "b", "c") == [b"1", b"1", None]


@pytest.mark.parametrize(("phase", "stored"), [(Phase.BEFORE, None), (Phase.EXECUTED, b"1")])
def test_a_dropped_command_or_reply_is_waited_for_in_vain(
    listener: Listener, direct: redis.Redis, phase: Phase, stored: bytes | None
) -> None:
    listener.arm(Strike(point=Point("SET", "SET", 1), kind=StrikeKind.DROP, phase=phase))
    with connected(listener, socket_timeout=0.5) as client, pytest.raises(redis.TimeoutError):
        client.set("a", 1)
    assert direct.get("a") == stored


def test_a_reply_is_cut_in_its_middle(through: redis.Redis, listener: Listener, direct: redis.Redis) -> None:
    direct.set("a", "x" * 1000)
    listener.arm(Strike(point=Point("GET", "GET", 1), kind=StrikeKind.CUT, phase=Phase.EXECUTED))
    with pytest.raises(redis.ConnectionError):
        through.get("a")
    assert through.get("a") == b"x" * 1000


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_answer_to_a_subscription_can_be_hit_at_and_what_follows_is_relayed(
    listener: Listener, direct: redis.Redis, protocol: int
) -> None:
    point = Point("*", "SUBSCRIBE", 1)
    listener.arm(Strike(point=point, kind=StrikeKind.RESET, phase=Phase.EXECUTED))
    with connected(listener, protocol=protocol) as client:
        pubsub = client.pubsub()
        with pytest.raises(redis.ConnectionError):
            pubsub.subscribe("news")
            pubsub.get_message(timeout=10)
        assert [strike.point for strike in listener.struck] == [point]
    with connected(listener, protocol=protocol) as client, client.pubsub() as pubsub:
        pubsub.subscribe("news")
        assert pubsub.get_message(timeout=10)["type"] == "subscribe"
        direct.publish("news", "x" * 100_000)
        assert pubsub.get_message(timeout=10)["data"] == b"x" * 100_000


@pytest.mark.parametrize("phase", [Phase.BEFORE, Phase.EXECUTED])
def test_a_delay_at_a_point_delays_only_that(through: redis.Redis, listener: Listener, phase: Phase) -> None:
    listener.arm(Strike(point=Point("ECHO", "ECHO", 2), kind=StrikeKind.DELAY, phase=phase, delay_ms=120))
    took_s = []
    for text in ("first", "second", "third"):
        begun_s = time.monotonic()
        assert through.echo(text) == text.encode()
        took_s.append(time.monotonic() - begun_s)
    assert took_s[1] >= 0.12 > max(took_s[0], took_s[2])


def test_latency_and_throttling_apply_each_way(through: redis.Redis, listener: Listener) -> None:
    through.ping()
    listener.set_link(Link(delay_ms=50))
    begun_s = time.monotonic()
    through.ping()
    assert time.monotonic() - begun_s >= 0.1
    listener.set_link(Link(bytes_per_s=100_000))
    begun_s = time.monotonic()
    through.echo("x" * 10_000)
    assert time.monotonic() - begun_s >= 0.2


@pytest.mark.parametrize(("link", "arrived"), [(Link(to_server_lost=True), 0), (Link(to_worker_lost=True), 1)])
def test_a_blackhole_holds_back_one_way_and_lets_go_when_it_is_lifted(
    listener: Listener, direct: redis.Redis, link: Link, arrived: int
) -> None:
    answers: list[Any] = []
    with connected(listener) as client:
        client.ping()
        listener.set_link(link)
        thread = threading.Thread(target=lambda: answers.append(client.incr("a")))
        thread.start()
        wait_until(lambda: listener.counts().get(("PING", "INCRBY")))
        if arrived:
            wait_until(lambda: direct.get("a") == b"1")
        assert (int(direct.get("a") or 0), answers) == (arrived, [])
        listener.set_link(Link())
        thread.join(30)
    assert answers == [1]


def test_the_bytes_of_a_client_that_gave_up_arrive_when_the_blackhole_is_lifted(
    listener: Listener, direct: redis.Redis
) -> None:
    with connected(listener, socket_timeout=0.5) as client:
        client.ping()
        listener.set_link(Link(to_server_lost=True, to_worker_lost=True))
        with pytest.raises(redis.TimeoutError):
            client.incr("a")
    wait_until(lambda: any(channel.orphaned for channel in listener.channels))
    assert direct.get("a") is None
    listener.set_link(Link())
    wait_until(lambda: direct.get("a") == b"1")
    wait_until(lambda: not listener.channels, message="the connection outlived its last word")


def test_the_bytes_on_a_slow_link_arrive_though_their_sender_is_gone(listener: Listener, direct: redis.Redis) -> None:
    with connected(listener, socket_timeout=0.5) as client:
        client.ping()
        listener.set_link(Link(delay_ms=1_500))
        with pytest.raises(redis.TimeoutError):
            client.incr("a")
    wait_until(lambda: direct.get("a") == b"1")
    wait_until(lambda: not listener.channels)


def test_jitter_is_drawn_from_its_seed_and_nothing_overtakes_what_was_sent_before(
    through: redis.Redis, listener: Listener
) -> None:
    times_s = []
    for _ in range(2):
        listener.set_link(Link(jitter_ms=20, seed=7))
        times_s.append(listener.jitter.getstate())
        assert [through.echo(str(number)) for number in range(20)] == [b"%d" % number for number in range(20)]
    assert times_s[0] == times_s[1]
    tally = listener.to_server
    assert tally.late_pieces == 40
    assert 0 < tally.late_s <= 40 * 0.02


def test_the_bytes_held_back_delayed_and_cut_are_counted(through: redis.Redis, listener: Listener) -> None:
    through.ping()
    assert (listener.to_server.held_bytes, listener.to_server.late_bytes, listener.cut) == (0, 0, [])
    listener.set_link(Link(delay_ms=5))
    through.ping()
    assert (listener.to_server.late_bytes, listener.to_worker.late_bytes) == (14, 7)
    listener.set_link(Link())
    listener.arm(Strike(point=Point("PING", "PING", 3), kind=StrikeKind.CUT, phase=Phase.EXECUTED))
    with pytest.raises(redis.ConnectionError):
        through.ping()
    assert listener.cut == [(3, 7)]
    with connected(listener, socket_timeout=0.5) as client:
        client.ping()
        listener.set_link(Link(to_worker_lost=True))
        with pytest.raises(redis.TimeoutError):
            client.ping()
        wait_until(lambda: listener.to_worker.held_bytes == 7)
        assert listener.to_server.held_bytes == 0


def test_connections_are_refused_and_reset(through: redis.Redis, listener: Listener) -> None:
    through.ping()
    listener.set_link(Link(refuse=True))
    assert through.ping()
    assert listener.reset_all() == 1
    with pytest.raises(redis.ConnectionError):
        through.ping()
    with pytest.raises(redis.ConnectionError):
        through.ping()
    listener.set_link(Link())
    assert through.ping()


def test_a_gated_worker_connects_and_gets_no_further_until_the_gate_is_opened(
    proxy: Proxy, direct: redis.Redis
) -> None:
    gated = proxy.listen(gated=True)
    answers: list[Any] = []
    with redis.Redis.from_url(gated.url) as client:  # connects at its first command
        thread = threading.Thread(target=lambda: answers.append(client.incr("a")))
        thread.start()
        wait_until(lambda: gated.channels)
        assert (gated.counts(), answers) == ({}, [])
        gated.open()
        thread.join(30)
    assert answers == [1]


def test_other_workers_go_on_when_one_is_hit(proxy: Proxy, through: redis.Redis, listener: Listener) -> None:
    other = proxy.listen()
    listener.arm(Strike(point=Point("GET", "GET", 1), kind=StrikeKind.RESET))
    with connected(other) as client:
        client.ping()
        with pytest.raises(redis.ConnectionError):
            through.get("a")
        assert client.ping()


def test_a_hit_that_is_invalid_is_refused() -> None:
    point = Point("*", "GET", 1)
    with pytest.raises(ValueError, match="kill"):
        Strike(point=point, kind=StrikeKind.KILL)
    with pytest.raises(ValueError, match="cut"):
        Strike(point=point, kind=StrikeKind.CUT)
    with pytest.raises(ValueError, match="already delivered"):
        Strike(point=point, kind=StrikeKind.DELAY, phase=Phase.AFTER)
