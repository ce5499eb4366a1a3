"""The client's own Sentinel support: its connections lead to the primary that a majority of Sentinels announce."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from support.processes.sentinels import LoneSentinel, lone_sentinels, url_of
from support.processes.tls_relay import TlsRelay
from support.waiting import wait_until
from zeroloss.reference.failover import following
from zeroloss.reference.queue.client import Queue
from zeroloss.reference.queue.config import Config
from zeroloss.reference.queue.connection import NeverSent, Script, connect
from zeroloss.reference.queue.errors import NotAccepted
from zeroloss.system.servers import Server

PING = Script("return redis.call('PING')")


def port_of(server: Server) -> int:
    return urlsplit(server.url).port or 0


def port_reached(client: redis.Redis) -> int:
    return int(client.info("server")["tcp_port"])


@pytest.fixture
def pair(open_own_server: Callable[..., Server]) -> tuple[int, int]:
    """The ports of two primaries, which both stay up."""
    old, new = open_own_server(appendfsync=None), open_own_server(appendfsync=None)
    return port_of(old), port_of(new)


@pytest.fixture
def three(tmp_path: Path, pair: tuple[int, int]) -> Iterator[list[LoneSentinel]]:
    """Three Sentinels that announce the first server of the pair."""
    with lone_sentinels(tmp_path, *[pair[0]] * 3) as sentinels:
        yield sentinels


def test_a_client_reaches_the_primary_that_the_sentinels_name(three: list[LoneSentinel], pair: tuple[int, int]) -> None:
    with connect(Config(redis_url=url_of(*three))) as client:
        assert port_reached(client) == pair[0]


def test_a_new_primary_is_reached_within_two_seconds_though_the_old_session_stands(
    three: list[LoneSentinel], pair: tuple[int, int]
) -> None:
    with connect(Config(redis_url=url_of(*three))) as client:
        client.ping()
        for sentinel in three:
            sentinel.announce(pair[1])
        wait_until(lambda: port_reached(client) == pair[1], 2.0, "the client keeps to the old primary")


def locators() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "locator"}


def test_a_closed_client_asks_the_sentinels_no_more_until_its_next_command(
    three: list[LoneSentinel], pair: tuple[int, int]
) -> None:
    before = locators()
    client = connect(Config(redis_url=url_of(*three)))
    for _ in range(2):
        assert port_reached(client) == pair[0]
        (thread,) = locators() - before
        client.close()
        thread.join(30)
        assert not thread.is_alive(), "the thread that asks the Sentinels lives on"
        assert client.connection_pool.sockets() == []


def test_a_wait_at_the_old_primary_ends_when_another_is_announced(
    three: list[LoneSentinel], pair: tuple[int, int]
) -> None:
    ended: list[tuple[float, Exception]] = []
    with connect(Config(redis_url=url_of(*three), block_ms=60_000)) as client:

        def wait_long() -> None:
            try:
                client.blpop(["nothing"], timeout=60)
            except redis.ConnectionError as error:
                ended.append((time.monotonic(), error))

        thread = threading.Thread(target=wait_long)
        thread.start()
        with redis.Redis(port=pair[0]) as old:
            wait_until(lambda: old.info("clients")["blocked_clients"] == 1, message="it does not wait")
        for sentinel in three:
            sentinel.announce(pair[1])
        announced = time.monotonic()
        wait_until(lambda: port_reached(client) == pair[1], 2.0, "the client keeps to the old primary")
        thread.join(30)
    assert ended
    assert ended[0][0] - announced < 2.0


def test_a_sentinel_that_was_cut_off_with_the_old_primary_is_outvoted(tmp_path: Path, pair: tuple[int, int]) -> None:
    old, new = pair
    with (
        lone_sentinels(tmp_path, old, new, new) as sentinels,
        connect(Config(redis_url=url_of(*sentinels))) as client,
    ):
        assert port_reached(client) == new


def test_a_sentinel_that_hangs_costs_its_answer_once(
    three: list[LoneSentinel], pair: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "LOOK_S", 0.0)
    three[0].pause()
    with connect(Config(redis_url=url_of(*three))) as client:
        assert port_reached(client) == pair[0]
        began = time.monotonic()
        for _ in range(20):
            client.ping()
        assert time.monotonic() - began < 20 * following.ANSWER_S / 2


def test_a_sentinel_that_ends_leaves_standing_connections_as_they_are(
    three: list[LoneSentinel], monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(Config(redis_url=url_of(*three))) as client:
        number = client.client_id()
        for sentinel in three:
            sentinel.end()
        monkeypatch.setattr(following, "LOOK_S", 0.0)
        assert client.client_id() == number


def test_a_command_is_never_sent_where_no_sentinel_answers(dead_port: int) -> None:
    url = f"redis+sentinel://127.0.0.1:{dead_port}/main/0"
    with connect(Config(redis_url=url)) as client, pytest.raises(NeverSent, match="No Sentinel names the primary"):
        PING(client, [], [])
    with Queue.connect(url) as queue, pytest.raises(NotAccepted, match="No Sentinel names the primary of 'main'"):
        queue.enqueue("any", None)


def test_a_command_is_never_sent_where_no_sentinel_knows_the_name(three: list[LoneSentinel]) -> None:
    url = url_of(*three).replace("/main/", "/other/")
    with connect(Config(redis_url=url)) as client, pytest.raises(NeverSent, match="one knows no 'other'"):
        PING(client, [], [])


def test_a_refusal_of_a_primary_that_became_a_replica_stays_a_definite_no(
    three: list[LoneSentinel], pair: tuple[int, int]
) -> None:
    with Queue.connect(url_of(*three)) as queue, redis.Redis(port=pair[0]) as old:
        queue.enqueue("any", None)
        old.replicaof("127.0.0.1", pair[1])
        with pytest.raises(NotAccepted, match=r"READONLY|read only"):
            queue.enqueue("any", None)


def test_sentinels_and_servers_have_logins_of_their_own(three: list[LoneSentinel], pair: tuple[int, int]) -> None:
    with redis.Redis(port=pair[0]) as server:
        server.execute_command("ACL", "SETUSER", "me", "on", ">s3cret", "~*", "+@all")
        for sentinel in three:
            sentinel.client.execute_command(
                "ACL", "SETUSER", "watcher", "on", ">0ther", "-@all", "+sentinel|get-master-addr-by-name"
            )
        options = "?sentinel_username=watcher&sentinel_password=0ther&client_name=mine"
        with connect(Config(redis_url=url_of(*three, credentials="me:s3cret@", options=options))) as client:
            assert client.acl_whoami() in ("me", b"me")
            assert client.client_getname() in ("mine", b"mine")
            assert [client["user"] for client in three[1].client.client_list()].count("watcher") == 1


def test_a_forked_child_closes_the_connections_to_the_sentinels_too(three: list[LoneSentinel]) -> None:
    with connect(Config(redis_url=url_of(*three))) as client:
        mine = client.client_id()
        assert len(client.connection_pool.sockets()) == 1 + len(three)
        child = os.fork()
        if child == 0:
            os._exit(0 if client.client_id() != mine else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.client_id() == mine


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1, with the key in the same file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


def test_tls_reaches_the_sentinels_and_the_primary_and_ends_at_a_failover(
    tmp_path: Path, pair: tuple[int, int], certificate: Path
) -> None:
    with (
        TlsRelay(pair[0], certificate) as old,
        TlsRelay(pair[1], certificate) as new,
        lone_sentinels(tmp_path, old.port) as (sentinel,),
        TlsRelay(sentinel.port, certificate) as front,
    ):
        url = f"rediss+sentinel://127.0.0.1:{front.port}/main/0?ssl_ca_certs={certificate}.crt"
        with connect(Config(redis_url=url)) as client:
            assert port_reached(client) == pair[0]
            sentinel.announce(new.port)
            wait_until(lambda: port_reached(client) == pair[1], 2.0, "the client keeps to the old primary")
        plain = url.replace(f":{front.port}", f":{sentinel.port}")
        with connect(Config(redis_url=f"{plain}&sentinel_tls=false")) as client:
            assert port_reached(client) == pair[1]
        with connect(Config(redis_url=url.partition("?")[0])) as client, pytest.raises(redis.ConnectionError):
            client.ping()
