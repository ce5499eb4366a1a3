"""The Redis under test: the harness starts, kills, freezes and restarts it, wherever it runs."""

import errno
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.waiting import wait_until
from zeroloss.history import Recorder, read
from zeroloss.system.servers import Durability, NotOurServer, Server, ServerUnavailable, embedded, open_server
from zeroloss.system.servers.server import HeldPort

KINDS = ["embedded", pytest.param("container", marks=pytest.mark.container)]
OpenServer = Callable[..., Server]


@pytest.fixture(scope="module", params=KINDS)
def durable_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of each kind that persists every write; tests may leave it in any state."""
    if request.param == "container":
        request.getfixturevalue("docker")
    with open_server(request.param, appendfsync="always", directory=tmp_path_factory.mktemp("durable")) as opened:
        yield opened


@pytest.fixture
def durable(durable_server: Server) -> Server:
    """The durable server, running."""
    if not durable_server.running:
        durable_server.start()
    return durable_server


def ask(server: Server, *, socket_timeout: float = 5.0) -> redis.Redis:
    return redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0), socket_timeout=socket_timeout)


def test_a_killed_server_exits_with_minus_nine_and_does_not_answer(durable: Server) -> None:
    assert durable.kill() == -signal.SIGKILL
    assert not durable.running
    with ask(durable) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_a_write_that_a_killed_server_acknowledged_is_there_when_it_is_started_again(durable: Server) -> None:
    with ask(durable) as client:
        client.set("key", "acknowledged")
        durable.kill()
        durable.start()
        assert client.get("key") == b"acknowledged"


def test_a_stopped_server_exits_with_zero_and_keeps_its_data(durable: Server) -> None:
    with ask(durable) as client:
        client.set("key", "kept")
        assert durable.stop() == 0
        durable.start()
        assert client.get("key") == b"kept"


def test_a_server_with_much_data_has_loaded_it_when_it_is_started_again(open_own_server: OpenServer) -> None:
    server = open_own_server("embedded", appendfsync="everysec")
    with ask(server) as client:
        for first in range(1, 600_000, 10_000):  # a script that sets all keys may take longer than the client waits
            script = "for i = 0, 9999 do redis.call('SET', 'key' .. ARGV[1] + i, string.rep('x', 50)) end"
            client.eval(script, 0, first)
    assert server.stop() == 0
    server.start()
    with ask(server) as client:
        assert client.get("key1") == b"x" * 50


def test_the_url_holds_and_the_run_id_changes_with_each_start(durable: Server) -> None:
    url, run_id = durable.url, durable.run_id()
    durable.kill()
    durable.start()
    durable.restart()
    assert durable.url == url
    assert durable.url.startswith("redis://127.0.0.1:")
    assert durable.run_id() != run_id


def test_a_paused_server_answers_when_it_is_resumed(durable: Server) -> None:
    with ask(durable, socket_timeout=0.1) as client:
        durable.pause()
        assert durable.running
        with pytest.raises(redis.TimeoutError):
            client.ping()
        durable.resume()
        wait_until(lambda: _pings(client))


@pytest.mark.parametrize("end, status", [(Server.kill, -signal.SIGKILL), (Server.stop, 0)], ids=["killed", "stopped"])
def test_a_paused_server_can_be_ended(durable: Server, end: Callable[[Server], int], status: int) -> None:
    durable.pause()
    assert getattr(durable, end.__name__)() == status
    durable.start()
    assert durable.run_id()


@pytest.mark.parametrize("verb", ["kill", "stop", "pause", "resume"])
def test_a_server_that_is_down_is_not_ended_once_more(durable: Server, verb: str) -> None:
    durable.kill()
    with pytest.raises(ServerUnavailable, match="does not run"):
        getattr(durable, verb)()


def test_a_server_that_runs_is_not_started_once_more(durable: Server) -> None:
    run_id = durable.run_id()
    with pytest.raises(ServerUnavailable, match="runs already"):
        durable.start()
    assert durable.run_id() == run_id


def test_a_description_names_kind_product_address_and_what_is_kept(durable: Server) -> None:
    line = durable.describe()
    assert durable.kind in line
    assert durable.version() in line
    assert durable.url.removeprefix("redis://").removesuffix("/0") in line
    assert "AOF always" in line


def test_durability_is_read_from_the_live_server(durable: Server) -> None:
    assert durable.durability() == Durability(
        appendonly=True, appendfsync="always", save="", maxmemory_policy="noeviction"
    )
    with ask(durable) as client:
        client.config_set("appendfsync", "everysec")
        assert durable.durability().appendfsync == "everysec"
        client.config_set("appendfsync", "always")


@pytest.mark.parametrize(
    "appendonly, appendfsync, save, policy, says",
    [
        (True, "always", "", "noeviction", "an acknowledged write is on disk"),
        (True, "everysec", "", "noeviction", "up to about 2 s; a power cut takes about 1 s"),
        (True, "no", "", "noeviction", "fsync left to the kernel"),
        (False, "always", "3600 1", "noeviction", "snapshots (3600 1): a killed server loses everything since"),
        (False, "always", "", "noeviction", "a killed server loses everything."),
        (True, "always", "", "allkeys-lru", "allkeys-lru may evict the queue itself"),
        (None, None, None, None, "unknown"),
    ],
)
def test_durability_is_stated_in_a_sentence(
    appendonly: bool | None, appendfsync: str | None, save: str | None, policy: str | None, says: str
) -> None:
    kept = Durability(appendonly=appendonly, appendfsync=appendfsync, save=save, maxmemory_policy=policy)
    assert says in kept.sentence
    assert ("evict" in kept.sentence) == (policy == "allkeys-lru")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("appendfsync, appendonly", [(None, False), ("everysec", True)])
def test_a_server_keeps_what_it_was_told_to(
    request: pytest.FixtureRequest, open_own_server: OpenServer, kind: str, appendfsync: str | None, appendonly: bool
) -> None:
    if kind == "container":
        request.getfixturevalue("docker")
    durability = open_own_server(kind, appendfsync=appendfsync).durability()
    assert (durability.appendonly, durability.save) == (appendonly, "")
    assert durability.appendfsync == "everysec"


def test_closing_a_server_removes_its_data_and_leaves_its_log(tmp_path: Path) -> None:
    server = open_server("embedded", directory=tmp_path)
    assert list(server.data_dir.iterdir())
    server.close()
    server.close()
    assert not server.running
    assert [file.name for file in tmp_path.iterdir()] == ["server.log"]


def test_an_embedded_server_is_on_record_with_its_starts_and_exits(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "events", "harness")
    with open_server("embedded", directory=tmp_path, recorder=recorder) as server:
        server.kill()
    events = [(event.role, event.phase, event.wanted) for event in read(tmp_path / "events")]
    assert events == [("server", "start", None), ("server", "exit", True)]


def test_nobody_is_given_the_port_of_a_server_that_is_down(open_own_server: OpenServer) -> None:
    server = open_own_server()
    server.kill()
    port = int(server.url.rpartition(":")[2].removesuffix("/0"))
    with socket.socket() as other, pytest.raises(OSError) as refused:
        other.bind(("127.0.0.1", port))
    assert refused.value.errno == errno.EADDRINUSE
    server.start()


def test_a_port_taken_before_the_first_start_is_changed_for_another(
    open_own_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listener() as occupied:
        taken = iter([occupied.getsockname()[1]])
        monkeypatch.setattr(embedded, "HeldPort", lambda: _at(next(taken, None)))
        server = open_own_server()
        assert f":{occupied.getsockname()[1]}/" not in server.url
        assert server.run_id()


def test_a_port_taken_while_the_server_is_down_is_reported(open_own_server: OpenServer) -> None:
    server = open_own_server()
    server.kill()
    port = int(server.url.rpartition(":")[2].removesuffix("/0"))
    with listener(port), pytest.raises(ServerUnavailable, match="Another process listens"):
        server.start()
    server.start()


def test_a_server_that_cannot_start_says_why_with_the_end_of_its_log(open_own_server: OpenServer) -> None:
    server = open_own_server()
    server.kill()
    (manifest,) = server.data_dir.glob("**/*.manifest")
    manifest.write_text("nonsense")
    with pytest.raises(ServerUnavailable, match=r"ended at its start with status 1; the end of its log:\n(.|\n)*AOF"):
        server.start()


@pytest.fixture
def external_url(open_own_server: OpenServer) -> str:
    """The URL of an external server."""
    return open_own_server(appendfsync=None).url


def test_an_external_server_is_used_as_it_is(external_url: str, tmp_path: Path) -> None:
    with open_server(external_url, directory=tmp_path) as server:
        assert (server.kind, server.url) == ("external", external_url)
        assert server.describe() == f"external {server.version()} at {external_url}"
        assert server.durability().appendonly is False
    assert server.running


@pytest.mark.parametrize("verb", ["start", "stop", "kill", "restart", "pause", "resume"])
def test_an_external_server_is_not_ours_to_end(external_url: str, tmp_path: Path, verb: str) -> None:
    with open_server(external_url, directory=tmp_path) as server, pytest.raises(NotOurServer, match=f"ours to {verb}"):
        getattr(server, verb)()


def test_an_external_database_that_is_not_empty_is_refused_and_left_alone(external_url: str, tmp_path: Path) -> None:
    with redis.Redis.from_url(external_url) as client:
        client.set("theirs", 1)
        with pytest.raises(ServerUnavailable, match="holds 1 keys"):
            open_server(external_url, directory=tmp_path)
        assert client.get("theirs") == b"1"
    other_database = external_url.removesuffix("/0") + "/1"
    assert open_server(other_database, directory=tmp_path).running


def test_an_external_server_that_hides_its_configuration_has_an_unknown_durability(
    external_url: str, tmp_path: Path
) -> None:
    with redis.Redis.from_url(external_url) as client:
        client.acl_setuser("app", enabled=True, passwords=["+secret"], keys=["*"], commands=["+@all", "-config"])
    with open_server(external_url.replace("//", "//app:secret@"), directory=tmp_path) as server:
        assert server.durability().appendonly is None
        assert "secret" not in server.describe()


def test_an_external_server_that_does_not_answer_is_one_sentence_without_its_password(
    dead_port: int, tmp_path: Path
) -> None:
    with pytest.raises(ServerUnavailable) as refused:
        open_server(f"redis://app:secret@127.0.0.1:{dead_port}/0", directory=tmp_path)
    assert str(refused.value).startswith(f"The Redis at redis://app:***@127.0.0.1:{dead_port}/0 cannot be used: ")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("spec", ["nonsense", "http://127.0.0.1", "redis://127.0.0.1:port/0", ""])
def test_a_server_that_is_invalid_is_one_sentence(spec: str, tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable) as refused:
        open_server(spec, directory=tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.container
def test_an_image_that_is_missing_is_reported(docker: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROLOSS_REDIS_IMAGE", "localhost:1/no-such-image:1")
    with pytest.raises(ServerUnavailable, match="localhost:1/no-such-image:1"):
        open_server("container", directory=tmp_path)


@pytest.mark.container
def test_without_a_choice_a_container_is_used(docker: None, open_own_server: OpenServer) -> None:
    assert open_own_server("auto").kind == "container"


@pytest.mark.parametrize("spec", [None, "auto"])
def test_without_a_choice_and_without_an_engine_the_embedded_server_is_used(
    open_own_server: OpenServer, monkeypatch: pytest.MonkeyPatch, dead_port: int, spec: str | None
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{dead_port}")
    assert open_own_server(spec).kind == "embedded"


def test_a_container_without_an_engine_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dead_port: int
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{dead_port}")
    with pytest.raises(ServerUnavailable, match="No Docker engine answers"):
        open_server("container", directory=tmp_path)


def listener(port: int = 0) -> socket.socket:
    """Return a listener on the port, as a server opens on a port that a `HeldPort` only reserves."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


def _at(number: int | None) -> HeldPort:
    port = HeldPort()
    port.number = number or port.number
    return port


def _pings(client: redis.Redis) -> bool:
    try:
        return client.ping()
    except redis.RedisError:
        return False


def test_a_container_without_testcontainers_is_refused_in_one_sentence_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("docker", "docker.errors", "testcontainers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ServerUnavailable, match=r"pip install 'zeroloss\[container\]'"):
        open_server("container", directory=tmp_path)
