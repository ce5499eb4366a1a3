"""The promises of docs/running.md about rolling deploys and backups."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import redis
from support.processes.programs import over_unix_socket
from support.processes.worker_process import Pool, Watched
from support.queue_fixtures import Queue
from support.waiting import wait_until
from zeroloss.system.servers import Server
from zeroloss.system.servers.embedded import EmbeddedServer

EACH = 100


def test_a_rolling_deploy_under_load_loses_no_task_and_runs_none_twice(
    queue: Queue, watched: Watched, start_pool: Callable[..., Pool]
) -> None:
    """Old and new workers run side by side. Both are of this release: it is the first with its protocol."""
    submitted = []

    def submit() -> None:
        for _ in range(EACH):
            submitted.append(f"t{len(submitted)}")
            watched.submit("note", submitted[-1])

    pools = [start_pool("--threads", "2")]
    submit()
    for _ in range(2):
        old = pools[-1]
        pools.append(start_pool("--threads", "2"))
        wait_until(lambda: pools[-1].said("Serving"), 30)
        submit()
        old.signal(signal.SIGTERM)
        submit()
        assert old.wait() == 0
    wait_until(lambda: watched.completed() == len(submitted), 30)
    assert sorted(watched.ran()) == sorted(f"{task_id}:1" for task_id in submitted)
    assert queue.counters().get("recovered", 0) == 0
    assert queue.client.xlen(queue.keys.dead_letter) == 0


def test_a_backup_is_restored_as_the_page_says(open_own_server: Callable[..., Server], tmp_path: Path) -> None:
    server = open_own_server("embedded", appendfsync="always")
    assert isinstance(server, EmbeddedServer)
    with redis.Redis.from_url(server.url) as client:
        queue = Queue(client, server.url)
        before = client.lastsave()
        accepted = queue.enqueue(1, 2, 3)
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == 0)
        assert client.lastsave() >= before
        saved = Path(client.config_get("dir")["dir"]) / "dump.rdb"
        queue.own_client.close()
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copy(saved, restored)
    with (
        over_unix_socket(server.binary, restored) as socket,  # starts without an append-only file
        redis.Redis(unix_socket_path=str(socket)) as client,
    ):
        assert client.config_get("appendonly") == {"appendonly": "no"}
        client.config_set("appendonly", "yes")
        wait_until(lambda: list((restored / "appendonlydir").glob("*.manifest")))
        queue = Queue(client, f"unix://{socket}")
        claimed = [queue.claim(queue.consumer()).id for _ in accepted]
        queue.own_client.close()
    assert claimed == accepted
