"""A primary with replicas under Sentinel: it fails over, clients follow, and unreplicated writes are lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from msgspec import structs
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.fault_stage import Scene
from support.places import ROOT
from support.runs import carry_out
from support.waiting import wait_until
from zeroloss.checker.verdicts import Fate, Verdict
from zeroloss.faults import Missed
from zeroloss.faults.failover.cut_off import PrimaryCutOff
from zeroloss.faults.failover.sigkill import PrimarySigkill
from zeroloss.plan.plan import Plan, make_plan
from zeroloss.plan.requests import PlanError, parse_faults
from zeroloss.system.servers import SentinelServer, Server, open_server
from zeroloss.system.servers.sentinel import GROUP
from zeroloss.system.sessions import bearing
from zeroloss.system.warden import TOKEN_VARIABLE

OWNER = """
import os, signal, sys
from pathlib import Path
from zeroloss.system.servers import open_server
from zeroloss.system.warden import warden
server = open_server("sentinel", appendfsync=None, directory=Path(sys.argv[1]))
print(warden().token, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelServer]:
    with open_server("sentinel", appendfsync="no", directory=tmp_path_factory.mktemp("replicated")) as server:
        assert isinstance(server, SentinelServer)
        yield server


@pytest.fixture
def server(opened: SentinelServer) -> SentinelServer:
    """A stable group without data; any node may be the primary."""
    opened.start()
    with ask(opened) as client:
        client.flushall()
    return opened


def ask(server: Server) -> redis.Redis:
    return redis.Redis.from_url(server.url, retry=Retry(NoBackoff(), 0), socket_timeout=5.0, decode_responses=True)


def roles(server: SentinelServer) -> list[str]:
    return sorted(node.replication()["role"] for node in server.nodes)


def test_a_write_reaches_two_replicas(server: SentinelServer) -> None:
    with ask(server) as client:
        client.set("key", "value")
        assert client.wait(2, 5_000) == 2
    assert roles(server) == ["master", "slave", "slave"]
    assert server.announced()[0] is server.primary


def test_the_durability_tells_of_the_replicas(server: SentinelServer) -> None:
    found = server.durability()
    assert found.replicas == 2
    assert found.sentence.endswith("2 replicas, asynchronous: a failover takes what none of them has confirmed.")


def test_a_killed_primary_is_replaced_at_the_same_url_and_comes_back_as_a_replica(
    server: SentinelServer, scene: Scene
) -> None:
    url, run_id, old, (_, epoch) = server.url, server.run_id(), server.primary, server.announced()
    with ask(server) as client:
        client.set("before", "the fault")
    effect = scene.play(PrimarySigkill(), server)
    assert effect.evidence.startswith("The primary exited with status -9 while ")
    assert server.url == url
    assert server.run_id() != run_id
    assert server.announced()[1] > epoch
    assert old is not server.primary
    assert old.replication()["role"] == "slave"
    with ask(server) as client:
        assert client.get("before") == "the fault"


def test_a_write_to_a_primary_that_was_cut_off_is_gone_from_every_node(server: SentinelServer, scene: Scene) -> None:
    old = server.primary
    stage = scene.stage(server)
    with ask(server) as client:
        client.set("before", "the cut")
        server.await_replicated()
        server.cut_off()
        client.set("after", "the cut")
        assert client.wait(1, 50) == 0
        wait_until(server.failed_over, timeout_s=20)
        assert str(server.trouble()).startswith("Sentinel failed over by itself, ")
        assert client.get("after") == "the cut"  # from the old one of two primaries: clients have not followed yet
        assert server.follow() == 1
        assert server.trouble() is None
        assert client.get("before") == "the cut"
    PrimaryCutOff().heal(stage)
    assert old.replication()["role"] == "slave"
    for node in server.nodes:
        with ask(node) as client:
            assert (client.get("before"), client.get("after")) == ("the cut", None)


def test_a_failover_that_does_not_come_in_time_is_missed_and_healed(server: SentinelServer, scene: Scene) -> None:
    with pytest.raises(Missed, match="No replica was promoted within 0 s"):
        scene.play(PrimaryCutOff(patience_s=0.0), server)
    assert roles(server) == ["master", "slave", "slave"]
    assert server.announced()[0] is server.primary


def test_a_promotion_that_comes_while_a_fault_is_healed_is_followed_and_reported_to_the_run(
    server: SentinelServer, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Earlier writes may be lost, and no effective fault excuses that."""
    monkeypatch.setattr(server, "revive", lambda: promote_another(server))
    PrimaryCutOff().heal(scene.stage(server))
    assert server.announced()[0] is server.primary
    assert not server.failed_over()
    assert str(server.trouble()).startswith("Sentinel failed over by itself, ")


def promote_another(server: SentinelServer) -> None:
    """Request a failover, as if Sentinel believed that the primary is down."""
    port = server.sentinel_ports[0]
    with redis.Redis(port=port) as sentinel:
        sentinel.execute_command("SENTINEL", "FAILOVER", GROUP)


def test_nothing_is_left_of_a_replicated_server_whose_owner_was_killed(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    mark = f"{TOKEN_VARIABLE}={ended.stdout.strip()}"
    wait_until(lambda: not bearing(mark), message="Servers or Sentinels live on")


@pytest.mark.parametrize(
    ("faults", "server", "sentence"),
    [
        ("primary-sigkill", "embedded", "needs a primary with replicas: use --redis sentinel"),
        ("primary-cut-off", "redis://127.0.0.1:1/0", "needs a primary with replicas: use --redis sentinel"),
        ("server-sigkill", "sentinel", "is for one server"),
        ("client-pause", "sentinel", "is for one server"),
    ],
)
def test_a_fault_that_does_not_fit_the_server_is_refused(faults: str, server: str, sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence):
        make_plan(
            seed=1,
            target="reference",
            server=server,
            appendfsync="always",
            workers=1,
            tasks=10,
            faults=parse_faults(faults, None),
        )


# Whole runs -------------------------------------------------------------------------------------------------------


def test_a_task_that_a_replica_confirmed_is_not_lost_in_a_failover(tmp_path: Path) -> None:
    changes = {"server": "sentinel", "durability": "replicas:1", "tasks": 250, "workers": 1}
    outcome = carry_out(tmp_path, "reference", "primary-cut-off:follow_after_s=0.2", **changes)
    assert outcome.failure is None
    result = outcome.result
    assert result.verdict is Verdict.PASS, result.because
    assert result.tasks(Fate.EXCUSED) == []
    (fault,) = result.faults
    assert fault.state == "effective"
    assert "the old one had gone on to" in fault.evidence


def over_ten_seconds(plan: Plan) -> Plan:
    """Spread the tasks over 10 s, faster than one thread runs them, so some always wait; the fault comes at 0.5 s."""
    slower_ms = round(1.5 * 10_000 / len(plan.tasks))
    alone = {"work_ms": slower_ms, "batch": 0, "behaviour": ""}
    tasks = [
        structs.replace(task, at_s=10 * number / len(plan.tasks), **alone) for number, task in enumerate(plan.tasks)
    ]
    return structs.replace(plan, tasks=tasks, faults=[structs.replace(fault, at_s=0.5) for fault in plan.faults])


def test_a_promise_without_a_replica_is_excused_by_number_when_a_failover_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The duration of the failover does not matter: promises are made for 10 s, and the latest tasks wait."""
    monkeypatch.setenv("ZEROLOSS_THREADS", "1")
    changes = {"server": "sentinel", "durability": "memory", "tasks": 100, "workers": 1}
    outcome = carry_out(
        tmp_path, "reference", "primary-cut-off:follow_after_s=0.2", arranged=over_ten_seconds, **changes
    )
    assert outcome.failure is None
    result = outcome.result
    assert result.verdict is Verdict.EXCUSED, result.because
    assert len(result.excuses) == len(result.tasks(Fate.EXCUSED)) > 0
    assert all(str(excuse.fault) == "fault 1 (primary-cut-off)" for excuse in result.excuses)
