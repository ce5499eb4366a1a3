"""Faults that pause workers, ask them to stop, or cut them off: each is shown to take effect, and heals."""

import socket
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import psutil
import pytest
import redis
from support.fault_stage import BUSY, Scene, Traffic
from support.waiting import wait_until
from zeroloss.faults import Missed
from zeroloss.faults.client.kill import ClientKill
from zeroloss.faults.server.sigstop import ServerSigstop
from zeroloss.faults.worker.asleep_sigkill import AsleepSigkill
from zeroloss.faults.worker.sigint import WorkerSigint
from zeroloss.faults.worker.sigstop import WorkerSigstop
from zeroloss.faults.worker.sigterm import WorkerSigterm
from zeroloss.system.servers import Server

OpenServer = Callable[..., Server]

IDLE = "import time; time.sleep(3600)"
POLITE = (
    "import signal, sys\n"
    "for number, status in ((signal.SIGTERM, 3), (signal.SIGINT, 4)):\n"
    "    signal.signal(number, lambda *_, status=status: sys.exit(status))\n"
    f"{BUSY}"
)
DEAF = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{BUSY}"


@pytest.mark.parametrize(("fault", "name", "status"), [(WorkerSigterm(), "SIGTERM", 3), (WorkerSigint(), "SIGINT", 4)])
def test_a_worker_that_is_asked_to_end_in_the_middle_of_a_task_is_waited_for_and_started_again(
    scene: Scene, fault: WorkerSigterm, name: str, status: int
) -> None:
    pool = scene.workers(POLITE)
    (worker,) = pool.living()
    effect = scene.play(fault)
    assert (worker.poll(), effect.pids) == (status, (worker.pid,))
    assert effect.tasks[0].startswith(f"task-{worker.pid}-")
    assert f"at {name}, and exited with status {status}" in effect.evidence
    assert [again.pid for again in pool.living()] != [worker.pid]


FAMILY = f"""
import os, signal, sys, time
if os.fork():
    child = os.fork()
    if child:
        signal.signal(signal.SIGINT, lambda *_: sys.exit(4))
        {BUSY.strip().replace(chr(10), chr(10) + 8 * " ")}
    os.setpgid(0, 0)
signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
time.sleep(3600)
"""


@pytest.mark.parametrize(("fault", "left"), [(WorkerSigint(), 0), (WorkerSigint(to_all=False), 2)])
def test_ctrl_c_is_told_to_every_process_of_a_worker_and_not_to_the_one_that_was_started_alone(
    scene: Scene, fault: WorkerSigint, left: int
) -> None:
    (worker,) = scene.workers(FAMILY).living()
    wait_until(lambda: len(worker.members()) == 3)
    effect = fault.inject(scene.stage())
    assert ("at SIGINT to all 3 of its processes, and exited" in effect.evidence) is (left == 0)
    wait_until(lambda: len(worker.members()) == left)


COUNTING = f"""
import signal, sys
came = []
signal.signal(signal.SIGTERM, lambda *_: came.append(1) or len(came) == 2 and sys.exit(5))
{BUSY}"""


def test_a_signal_that_a_wrapper_forwards_comes_twice(scene: Scene) -> None:
    scene.workers(COUNTING)
    scene.wait_for_task()
    assert "at SIGTERM, sent twice, and exited with status 5" in scene.play(WorkerSigterm(twice=True)).evidence


LONG = """
import time
from zeroloss.ledger import effect
time.sleep(1.0)
with effect("long"):
    time.sleep(3600)
"""


def test_the_worker_that_is_asked_to_end_is_one_that_has_just_begun_a_long_task(scene: Scene) -> None:
    pool = scene.workers(BUSY, LONG)
    scene.wait_for_task()
    _, worker = pool.living()
    effect = scene.play(WorkerSigterm(), long=frozenset({"long"}))
    assert (effect.pids, effect.tasks) == ((worker.pid,), ("long",))


def test_a_long_task_that_a_fault_has_met_before_is_not_the_one_that_is_waited_for(scene: Scene) -> None:
    scene.workers(LONG.replace("1.0", "0.5"), LONG.replace("1.0", "1.5").replace('"long"', '"other"'))
    members = {"long": frozenset({"long", "other"}), "struck": lambda: frozenset({"long"})}
    assert "other" in scene.play(WorkerSigterm(patience_s=8.0), **members).tasks


def test_where_no_long_task_begins_any_worker_is_asked_to_end(scene: Scene) -> None:
    scene.workers(LONG.replace("1.0", "0.0"))
    scene.wait_for_task()
    assert scene.play(WorkerSigterm(patience_s=4.0), long=frozenset({"long"})).tasks == ("long",)


def test_a_worker_that_does_not_end_when_it_is_asked_to_has_missed_the_fault(scene: Scene) -> None:
    scene.workers(DEAF)
    scene.wait_for_task()
    with pytest.raises(Missed, match="did not end within 1 s"):
        scene.play(WorkerSigterm(patience_s=1.0))


def test_no_worker_inside_a_task_is_a_missed_fault(scene: Scene) -> None:
    scene.workers(IDLE)
    for fault in (WorkerSigterm(patience_s=0.1), WorkerSigstop(patience_s=0.1)):
        with pytest.raises(Missed, match="No worker was"):
            scene.play(fault)


def test_a_worker_stands_still_inside_a_task_and_goes_on_when_the_fault_is_healed(scene: Scene) -> None:
    (worker,) = scene.workers(BUSY).living()
    fault, stage = WorkerSigstop(for_s=0.2), scene.stage()
    effect = fault.inject(stage)
    assert effect.pids == (worker.pid,)
    (task,) = effect.tasks
    assert psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED
    fault.heal(stage)
    wait_until(lambda: _completed(scene, task), message="it did not go on")


def test_an_idle_worker_is_killed_in_its_sleep_and_started_again(scene: Scene) -> None:
    pool = scene.workers(IDLE)
    (worker,) = pool.living()
    effect = scene.play(AsleepSigkill(for_s=0.1, settled_s=0.1))
    assert (worker.poll(), effect.pids, effect.tasks) == (-9, (worker.pid,), ())
    assert [again.pid for again in pool.living()] != [worker.pid]


def test_a_worker_that_has_just_been_started_does_not_count_as_asleep(scene: Scene) -> None:
    scene.workers(IDLE)
    with pytest.raises(Missed, match="No idle worker"):
        scene.play(AsleepSigkill(for_s=0.1, settled_s=60.0, patience_s=0.1))


def test_a_storm_cuts_every_client_again_and_again(scene: Scene, open_own_server: OpenServer) -> None:
    server = open_own_server(appendfsync=None)
    with Traffic(server, lambda client: client.incr("n")) as traffic:
        wait_until(lambda: traffic.acknowledged > 10)
        effect = scene.play(ClientKill(for_s=1.5), server)
    assert int(effect.evidence.split()[3]) > 10


def test_a_storm_without_a_client_has_hit_nobody(scene: Scene, open_own_server: OpenServer) -> None:
    with pytest.raises(Missed, match="No client was connected"):
        scene.play(ClientKill(for_s=0.05), open_own_server(appendfsync=None))


def test_a_storm_over_a_server_that_is_away_has_hit_nobody(scene: Scene, open_own_server: OpenServer) -> None:
    server = open_own_server(appendfsync=None)
    server.kill()
    with pytest.raises(Missed, match="refused or was away"):
        scene.play(ClientKill(for_s=0.05), server)


def test_a_command_sent_to_a_frozen_server_is_executed_though_its_client_gave_up(
    scene: Scene, open_own_server: OpenServer
) -> None:
    server = open_own_server(appendfsync=None)
    acknowledged = 0
    # A plain socket: with a client, the time limit could end the handshake in place of the command.
    address = ("127.0.0.1", urlsplit(server.url).port or 0)
    with socket.create_connection(address) as hasty, redis.Redis.from_url(server.url) as patient:
        hasty.settimeout(0.5)
        fault = threading.Thread(target=scene.play, args=(ServerSigstop(for_s=2.0), server))
        fault.start()
        with pytest.raises(TimeoutError):
            while True:
                hasty.sendall(b"INCR executed\r\n")
                acknowledged = int(hasty.recv(64).strip(b":\r\n"))
        fault.join()
        wait_until(lambda: int(patient.get("executed") or 0) == acknowledged + 1)


def test_a_stall_that_is_to_meet_workers_waits_for_one_inside_a_task(scene: Scene, open_own_server: OpenServer) -> None:
    server = open_own_server(appendfsync=None)
    scene.workers(IDLE)
    with pytest.raises(Missed, match="inside a task"):
        scene.play(ServerSigstop(for_s=0.1, patience_s=0.1), server)


def _completed(scene: Scene, task: str) -> bool:
    scene.ledger.poll()
    return task in scene.ledger.completed()
