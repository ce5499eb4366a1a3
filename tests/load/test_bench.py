"""The bench: its output and its clean-up. No test checks a speed."""

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from support.places import ROOT
from support.waiting import wait_until
from zeroloss.loadtests.bench import limit, table
from zeroloss.loadtests.bench.__main__ import parser
from zeroloss.loadtests.bench.backlog import PENDING
from zeroloss.loadtests.bench.context import Context
from zeroloss.loadtests.bench.errors import BenchError
from zeroloss.loadtests.bench.peers import OURS, PEERS
from zeroloss.loadtests.bench.plot import dots
from zeroloss.loadtests.bench.processes import Processes
from zeroloss.loadtests.bench.queues import PLACES, Peer, Queue
from zeroloss.loadtests.bench.rows import AtLeast, AtMost, Row, number, ratio
from zeroloss.loadtests.bench.sections.drain import rate
from zeroloss.loadtests.bench.sections.relay import Relay
from zeroloss.loadtests.bench.sections.scale import cluster, fleet
from zeroloss.loadtests.bench.server import Server


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def context(tmp_path: Path, said: list[str]) -> Iterator[Context]:
    with Processes(tmp_path) as processes:
        server = Server(processes, tmp_path)
        yield Context(
            rounds=3, tasks=640, quick=True, server=server, processes=processes, folder=tmp_path, say=said.append
        )


def _row(*values: float, target: AtLeast | AtMost | None = None) -> Row:
    return Row(label="drain", unit="tasks/s", values=values, target=target)


def test_a_figure_is_the_median_of_its_rounds() -> None:
    assert _row(1, 100, 3).median == 3


def test_a_target_that_is_reached_is_met() -> None:
    assert _row(30, target=AtLeast(30)).verdict == "met"
    assert _row(2, target=AtMost(2)).verdict == "met"


def test_a_target_that_is_not_reached_is_missed_by_a_share_of_it() -> None:
    assert _row(24, target=AtLeast(30)).verdict == "missed by 20%"
    assert _row(29.95, target=AtLeast(30)).verdict == "missed by 0.2%"
    assert _row(3, target=AtMost(2)).verdict == "missed by 50%"


def test_where_nothing_may_happen_once_is_a_miss() -> None:
    assert _row(0, target=AtMost(0)).verdict == "met"
    assert _row(1, target=AtMost(0)).verdict == "missed by 100%"


def test_a_slowdown_of_a_whole_round_cancels_out_of_a_ratio() -> None:
    assert ratio("ours against theirs", [300, 30, 3_000], [10, 1, 100]).values == (30, 30, 30)


def test_a_figure_that_never_came_is_infinite_to_a_reader_and_null_in_json() -> None:
    row = _row(math.inf)
    assert number(row.median) == "∞"
    (written,) = json.loads(table.as_json({"latency": [row]}, {}))["sections"]["latency"]
    assert written["median"] is None


def test_the_table_shows_the_median_the_spread_the_target_and_whether_it_is_met() -> None:
    rows = [_row(10, 40, 20, target=AtLeast(30))]
    text = table.markdown({"drain": rows}, {"Command": "python -m loadtests.bench"}, [])
    assert "| drain | 20 tasks/s | 10 to 40 | at least 30 | missed by 33% |" in text
    assert "- Command: python -m loadtests.bench" in text


def test_the_table_begins_with_all_that_has_a_target() -> None:
    results = {"drain": [_row(10)], "idle": [_row(0.2, target=AtMost(1))]}
    targets, _, rest = table.markdown(results, {}, []).partition("## Targets")[2].partition("## drain")
    assert "| idle | drain | 0.2 tasks/s |  | at most 1 | met |" in targets
    assert "| drain | 10 tasks/s |" not in targets
    assert "| drain | 10 tasks/s |" in rest


def test_a_plot_is_an_svg_that_names_each_queue() -> None:
    rows = [
        Row(label="zeroloss", unit="tasks/s", values=(90_000, 110_000)),
        Row(label="<b>", unit="tasks/s", values=(7,)),
        Row(label="never", unit="tasks/s", values=(math.inf,)),
    ]
    root = xml.etree.ElementTree.fromstring(dots("Speed", rows, "zeroloss"))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"zeroloss", "<b>", "Speed, tasks/s"} <= set(texts)
    assert "never" not in texts  # an infinite value has no place on an axis


def test_every_round_measures_all_in_turn_and_begins_with_another(context: Context) -> None:
    order: list[str] = []
    subjects = {name: lambda name=name: order.append(name) or len(order) for name in "abc"}
    found = context.interleaved(subjects, str)
    assert "".join(order) == "abcbcacab"
    assert found == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}


def test_a_figure_that_cannot_be_measured_is_left_out_with_the_reason(context: Context, said: list[str]) -> None:
    def fails() -> int:
        raise BenchError("its worker ended with status 1")

    assert context.interleaved({"a": lambda: 1, "b": fails}, str) == {"a": [1, 1, 1]}
    assert "  b is left out: its worker ended with status 1" in said


def test_a_worker_that_ends_is_not_waited_for_and_its_last_line_is_shown(context: Context) -> None:
    worker = context.processes.start([sys.executable, "-c", "raise SystemExit('no such queue')"])
    with pytest.raises(BenchError, match="status 1: no such queue"):
        rate(lambda: 10, 10, worker, context.processes)


def test_a_process_that_left_its_process_group_is_ended_too(tmp_path: Path) -> None:
    child = "import os, time; os.setpgid(0, 0); print(os.getpid(), flush=True); time.sleep(600)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    command = [sys.executable, "-c", parent]
    with Processes(tmp_path) as processes:
        processes.start(command)
        pid = int(wait_until(lambda: processes.log(command).read_text()))
        assert psutil.pid_exists(pid)
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_the_server_s_limit_is_taken_from_tasks_that_were_claimed_and_acked(context: Context) -> None:
    assert limit.rate(context) > 0
    client = redis.Redis.from_url(context.server.url)
    assert client.hget("tasks:counters", "completed") == b"576"  # all but the last 64 of 640, which are in flight
    assert client.hlen("tasks:processing:limit") == 64
    assert client.llen(PENDING) == 0


def test_our_own_queue_is_fed_and_seen_like_any_other(context: Context) -> None:
    queue, client = Queue(OURS, context), context.empty_server()
    queue.feed(3, payload_bytes=10)
    assert OURS.left(client) == 3
    with context.processes.running(*queue.worker()):
        wait_until(lambda: OURS.left(client) == 0)


def test_a_client_that_fails_is_an_error_with_its_last_line(context: Context) -> None:
    with pytest.raises(BenchError, match=r"status 1: .*TaskTooLarge"):
        Queue(OURS, context).feed(1, payload_bytes=2_000_000)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_s_releases_are_pinned_and_its_files_are_there(peer: Peer) -> None:
    assert all(re.search(r"(==|@)\d+\.\d+\.\d+$", requirement) for requirement in peer.requirements)
    files = [word for word in (*peer.worker, *peer.client) if word.endswith((".py", ".js"))]
    files += [f"{word.partition(':')[0].partition('.')[0]}.py" for word in peer.worker if "_app" in word]
    assert files
    assert all(any((place / file).is_file() for place in PLACES) for file in files)


def test_a_relay_holds_back_what_it_swallowed_and_then_hands_it_on() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, Relay(server.getsockname()[1]) as relay:
        client = socket.create_connection(("127.0.0.1", relay.port))
        behind, _ = server.accept()
        behind.settimeout(0.2)
        client.sendall(b"heard")
        assert behind.recv(10) == b"heard"
        relay.swallow()
        client.sendall(b"late")
        with pytest.raises(TimeoutError):
            behind.recv(10)
        relay.release()
        behind.settimeout(10)
        assert behind.recv(10) == b"late"
        client.close()
        behind.close()


PAGES = [ROOT / "docs" / "performance.md", ROOT / "CONTRIBUTING.md"]
COMMAND = re.compile(r"python -m loadtests\.bench([^`#\n]*)")
SHOWN = sorted({shown for page in PAGES for shown in COMMAND.findall(page.read_text())})


@pytest.mark.parametrize("shown", SHOWN)
def test_every_bench_command_that_a_page_shows_is_one(shown: str) -> None:
    assert parser().parse_args(shown.split())


def _command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "loadtests.bench", "--quick", "--out", str(out), *options]


def test_the_command_writes_a_table_and_every_round_s_values(tmp_path: Path) -> None:
    command = _command(tmp_path, "--only", "profile", "--tasks", "5000")
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"in {tmp_path}" in ended.stdout
    assert "| processor: claimer |" in (tmp_path / "bench.md").read_text()
    about = json.loads((tmp_path / "bench.json").read_text())["about"]
    assert "taskiq-redis==" in about["Peers"]


STARTING = """
import threading, time
known = threading.enumerate
threading.enumerate = lambda: [*known(), threading.Thread(name="new")]
import profiled_app
time.sleep(60)
"""


def test_a_thread_that_has_not_begun_yet_has_used_nothing(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    path = f"{ROOT}:{ROOT / 'loadtests' / 'bench' / 'apps'}"
    environment = {**os.environ, "PYTHONPATH": path, "REDIS_URL": "redis://", "BENCH_PROFILE": str(profile)}
    with subprocess.Popen([sys.executable, "-c", STARTING], env=environment) as process:
        try:
            wait_until(profile.exists, 20)
        finally:
            process.kill()
    threads = json.loads(profile.read_text())["threads"]
    assert sorted(threads.values()) == ["MainThread", "profile"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_command_leaves_no_process_behind(tmp_path: Path, number: signal.Signals) -> None:
    command = _command(tmp_path, "--only", "redelivery")
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    bench = psutil.Process(process.pid)
    wait_until(lambda: len(bench.children(recursive=True)) >= 3, 30, "no server and no worker was started")
    started = bench.children(recursive=True)
    os.kill(process.pid, number)
    assert process.wait(30) == 130
    assert not psutil.wait_procs(started, 10)[1]


def test_a_fleet_of_each_size_is_simulated_and_each_operation_has_its_figure(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "QUICK_SIZES", (2, 4))
    context.rounds = 1
    rows = fleet.measure(context)
    assert [row.label for row in rows if row.unit != "x"] == [
        f"{operation}, {size} consumers" for operation in fleet.OPERATIONS for size in (2, 4)
    ]
    assert all(row.median > 0 for row in rows)


def test_a_task_passes_through_each_number_of_primaries_and_costs_the_servers_something(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PRIMARIES", (2,))
    context.rounds, context.tasks = 1, 20_000
    rows = cluster.measure(context)
    assert [row.label for row in rows] == [f"{figure}, 2 primaries" for figure in cluster.FIGURES]
    assert all(row.median > 0 for row in rows)
