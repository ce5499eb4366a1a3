"""Faults of the server: each is shown to take effect, and to heal."""

import itertools
import re
from collections.abc import Callable
from contextlib import suppress

import pytest
import redis
from support.fault_stage import Scene, Traffic
from support.waiting import wait_until
from zeroloss.faults import Missed
from zeroloss.faults.client.pause import ClientPause
from zeroloss.faults.server.denies import ServerDenies
from zeroloss.faults.server.disk_full import ServerDiskFull
from zeroloss.faults.server.evicts import ServerEvicts
from zeroloss.faults.server.maxmemory import ServerMaxmemory
from zeroloss.faults.server.script_flush import ScriptFlush
from zeroloss.faults.server.sigstop import ServerSigstop
from zeroloss.faults.server.sigterm import ServerSigterm
from zeroloss.faults.server.slow_fsync import ServerSlowFsync
from zeroloss.faults.server.torn_aof import TAIL, ServerTornAof, newest_aof
from zeroloss.system.servers import Server

OpenServer = Callable[..., Server]


def settings(server: Server) -> dict[str, str]:
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        found: dict[str, str] = client.config_get("maxmemory", "maxmemory-policy")
        return found


def length(server: Server) -> int:
    with redis.Redis.from_url(server.url) as client:
        return int(client.llen("list"))


def push(client: redis.Redis) -> None:
    client.lpush("list", "x" * 50)


def test_a_server_that_was_asked_to_end_comes_back_with_its_data(scene: Scene, open_own_server: OpenServer) -> None:
    server = open_own_server(appendfsync="always")
    with redis.Redis.from_url(server.url) as client:
        push(client)
    effect = scene.play(ServerSigterm(down_s=0.05), server)
    assert "exited with status 0" in effect.evidence
    assert length(server) == 1


def test_a_server_that_keeps_nothing_comes_back_empty(scene: Scene, open_own_server: OpenServer) -> None:
    server = open_own_server(appendfsync=None)
    with redis.Redis.from_url(server.url) as client:
        push(client)
    scene.play(ServerSigterm(down_s=0.0), server)
    assert length(server) == 0


def test_a_frozen_server_is_the_same_afterwards(scene: Scene, open_own_server: OpenServer) -> None:
    server = open_own_server(appendfsync=None)
    with Traffic(server, push) as traffic:
        effect = scene.play_in_traffic(ServerSigstop(for_s=0.3), server, traffic)
    assert effect.evidence.endswith("answered no client for 0.3 s, and is the same afterwards.")


def test_a_server_that_answers_while_it_should_stand_still_is_not_a_frozen_one(
    scene: Scene, open_own_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = open_own_server(appendfsync=None)
    monkeypatch.setattr(server, "pause", lambda: None)
    with pytest.raises(Missed, match="answered though it was stopped"):
        scene.play(ServerSigstop(for_s=0.1), server)


@pytest.mark.parametrize("mode", ["ALL", "WRITE"])
def test_a_pause_is_seen_by_a_probe_that_must_wait(scene: Scene, open_own_server: OpenServer, mode: str) -> None:
    server = open_own_server(appendfsync=None)
    effect = scene.play(ClientPause(for_s=1.5, mode=mode), server)  # type: ignore[arg-type]
    assert re.fullmatch(r"A PUBLISH sent into the pause was answered after \d+\.\d\d s\.", effect.evidence)


def test_forgotten_scripts_are_counted_and_so_are_the_workers_that_miss_them(
    scene: Scene, open_own_server: OpenServer
) -> None:
    server = open_own_server(appendfsync=None)

    def call(client: redis.Redis) -> None:
        try:
            client.evalsha("e0e1f9fabfc9d4800c877a703b823ac0578ff8db", 0)
        except redis.exceptions.NoScriptError:
            client.eval("return 1", 0)
            client.script_load("return 1")

    with Traffic(server, call) as traffic:
        wait_until(lambda: traffic.acknowledged)
        effect = scene.play(ScriptFlush(times=5, every_s=0.02), server)
    assert "NOSCRIPT 0 times" not in effect.evidence


def test_where_no_script_is_known_to_forget_them_is_missed(scene: Scene, open_own_server: OpenServer) -> None:
    with pytest.raises(Missed, match="The server had no script cached"):
        scene.play(ScriptFlush(times=2, every_s=0.0), open_own_server(appendfsync=None))


def test_full_memory_refuses_writes_and_is_wide_again_afterwards(scene: Scene, open_own_server: OpenServer) -> None:
    server = open_own_server(appendfsync=None)
    before = settings(server)
    with Traffic(server, push) as traffic:
        wait_until(lambda: traffic.acknowledged)
        effect = scene.play(ServerMaxmemory(for_s=1.5), server)
        written = traffic.acknowledged
        wait_until(lambda: traffic.acknowledged > written)
    assert "the server refused" in effect.evidence
    assert traffic.failed
    assert settings(server) == before


def test_full_memory_in_which_tasks_are_accepted_has_taken_effect(scene: Scene, open_own_server: OpenServer) -> None:
    # A task is accepted some time after the memory should be full.
    before, later = {"before"}, {"before", "meanwhile"}
    accepted = itertools.chain([before] * 4, itertools.repeat(later))
    members = {"promised": lambda: frozenset(next(accepted))}
    effect = scene.play(ServerMaxmemory(for_s=0.05), open_own_server(appendfsync=None), **members)
    assert "refused 0 commands" in effect.evidence
    assert effect.evidence.endswith("and 1 accepted.")


def test_full_memory_waits_for_a_task_that_is_about_to_fail_for_the_first_time(
    scene: Scene, open_own_server: OpenServer
) -> None:
    server = open_own_server(appendfsync=None)
    scene.workers(FAILING)
    with Traffic(server, push) as traffic:
        wait_until(lambda: traffic.acknowledged)
        effect = scene.play(
            ServerMaxmemory(for_s=0.2, patience_s=30.0), server, behaving={"raise-once": frozenset({"failing"})}
        )
    assert effect.tasks == ("failing",)
    assert effect.lasted is not None
    assert 0.2e9 <= effect.lasted[1] - effect.lasted[0] < 5e9


FAILING = """
import time
from zeroloss.ledger import effect
with effect("sound"):
    time.sleep(1.0)
time.sleep(0.3)
with effect("failing"):
    time.sleep(3600)
"""


def test_full_memory_that_nobody_notices_is_missed_and_healed(scene: Scene, open_own_server: OpenServer) -> None:
    server = open_own_server(appendfsync=None)
    before = settings(server)
    with pytest.raises(Missed, match=r"refused nothing within 0\.05 s"):
        scene.play(ServerMaxmemory(for_s=0.05), server)
    assert settings(server) == before


def test_evicted_keys_are_counted_by_the_server_itself(scene: Scene, open_own_server: OpenServer) -> None:
    server = open_own_server(appendfsync=None)
    before = settings(server)
    with redis.Redis.from_url(server.url) as client:
        client.mset({f"key-{number}": "x" * 100 for number in range(50)})
    with Traffic(server, push):
        effect = scene.play(ServerEvicts(for_s=1.5), server)
    assert "(evicted_keys)" in effect.evidence
    assert settings(server) == before


def test_nothing_to_evict_is_missed(scene: Scene, open_own_server: OpenServer) -> None:
    with pytest.raises(Missed, match="evicted nothing"):
        scene.play(ServerEvicts(for_s=0.05), open_own_server(appendfsync=None))


def test_a_torn_end_is_cut_off_and_what_was_acknowledged_is_there(scene: Scene, open_own_server: OpenServer) -> None:
    server = open_own_server(appendfsync="always")
    with Traffic(server, push) as traffic:
        effect = scene.play_in_traffic(ServerTornAof(down_s=0.05), server, traffic)
    assert "Truncating the AOF" in effect.evidence
    assert length(server) >= traffic.acknowledged
    assert server.data_dir is not None
    aof = newest_aof(server.data_dir)
    assert aof is not None
    assert TAIL not in aof.read_bytes()


def test_without_an_append_only_file_nothing_is_torn_and_the_server_is_back(
    scene: Scene, open_own_server: OpenServer
) -> None:
    server = open_own_server(appendfsync=None)
    with pytest.raises(Missed, match="keeps no append-only file"):
        scene.play(ServerTornAof(down_s=0.0), server)
    assert length(server) == 0


def test_an_fsync_that_takes_seconds_makes_the_server_put_its_writes_off_and_answer_all_the_same(
    scene: Scene, open_own_server: OpenServer
) -> None:
    server = open_own_server(appendfsync="everysec")
    with Traffic(server, push) as traffic:
        effect = scene.play_in_traffic(ServerSlowFsync(for_s=4.0), server, traffic)
    assert "aof_delayed_fsync, writes put off for 2 s, rose by" in effect.evidence
    assert not traffic.failed
    with redis.Redis.from_url(server.url) as client:
        wait_until(lambda: client.info("persistence")["aof_pending_bio_fsync"] == 0)


def test_a_server_that_is_killed_in_a_slow_fsync_has_lost_what_it_had_not_written(
    scene: Scene, open_own_server: OpenServer
) -> None:
    server = open_own_server(appendfsync="everysec")
    with Traffic(server, push) as traffic:
        wait_until(lambda: traffic.acknowledged)
        # After 4.2 s the server has often just synced. The fault kills it only when it has unsynced writes again.
        effect = scene.play(ServerSlowFsync(for_s=4.2, kill=True), server)
        wait_until(lambda: length(server))
    assert "killed then, with status -9" in effect.evidence
    assert length(server) < traffic.acknowledged


def test_where_the_server_itself_fsyncs_there_is_no_thread_to_slow_down(
    scene: Scene, open_own_server: OpenServer
) -> None:
    with pytest.raises(Missed, match="use --appendfsync everysec"):
        scene.play(ServerSlowFsync(), open_own_server(appendfsync="always"))


@pytest.mark.parametrize("appendfsync", ["always", "everysec"])
def test_a_server_that_can_write_no_more_dies_and_comes_back_with_what_it_had_written(
    scene: Scene, open_own_server: OpenServer, appendfsync: str
) -> None:
    server = open_own_server(appendfsync=appendfsync)
    with Traffic(server, push) as traffic:
        effect = scene.play_in_traffic(ServerDiskFull(room_bytes=500), server, traffic)
    assert "died of a write" in effect.evidence
    assert length(server) >= traffic.acknowledged


def test_a_limit_that_no_write_has_reached_is_missed_and_lifted(scene: Scene, open_own_server: OpenServer) -> None:
    server = open_own_server(appendfsync="always")
    with pytest.raises(Missed, match="had written less than 100 bytes"):
        scene.play(ServerDiskFull(room_bytes=100, patience_s=0.05), server)
    with redis.Redis.from_url(server.url) as client:
        for _ in range(10):
            push(client)
    assert server.running


def deny_probe(client: redis.Redis) -> None:
    with suppress(redis.exceptions.NoPermissionError):
        push(client)


def test_a_denied_command_is_refused_until_it_was_sent_and_a_while_longer_and_then_allowed_again(
    scene: Scene, open_own_server: OpenServer
) -> None:
    server = open_own_server(appendfsync=None)
    with Traffic(server, deny_probe) as traffic:
        effect = scene.play_in_traffic(ServerDenies(command="LPUSH", for_s=0.2), server, traffic)
    assert int(re.findall(r"denied LPUSH (\d+) times", effect.evidence)[0]) > 0
    before = length(server)
    with redis.Redis.from_url(server.url) as client:
        push(client)
    assert length(server) == before + 1


def test_a_denied_command_that_nobody_sends_takes_no_effect(scene: Scene, open_own_server: OpenServer) -> None:
    with pytest.raises(Missed, match="No client sent XADD"):
        scene.play(ServerDenies(patience_s=0.2), open_own_server(appendfsync=None))
