"""The sampler of a run: resources of the server and the workers, from start to end, through all faults."""

import sys
from pathlib import Path

import msgspec
import pytest
from support.waiting import wait_until
from zeroloss.checker.judge import judge
from zeroloss.checker.verdicts import Leak, Verdict
from zeroloss.cli import execute
from zeroloss.history import Recorder, Resources, read
from zeroloss.history import load as load_history
from zeroloss.pytest_plugin import Survival
from zeroloss.report.html import render
from zeroloss.run.resources import Sampler
from zeroloss.system.processes import spawn

CHILD = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "


def test_a_worker_is_sampled_with_its_children_and_a_server_that_is_down_is_passed_over(tmp_path: Path) -> None:
    code = CHILD + "held = [open('/dev/null') for _ in range(50)]; print('ready', flush=True); time.sleep(60)"
    worker = spawn([sys.executable, "-c", code], role="worker", log_path=tmp_path / "log")
    events = tmp_path / "events"
    events.mkdir()
    try:
        wait_until(lambda: "ready" in worker.log_tail())
        wait_until(lambda: len(worker.members()) == 2)
        with Sampler(Recorder(events, "harness"), "redis://127.0.0.1:1/0", lambda: [worker]):
            wait_until(lambda: read(events))
    finally:
        worker.kill_session()
    samples = [event for event in read(events) if isinstance(event, Resources)]
    assert {(one.phase, one.sid) for one in samples} == {("worker", worker.sid)}
    assert all((one.descriptors or 0) > 50 and (one.threads or 0) >= 2 for one in samples)
    assert all((one.memory_bytes or 0) > 2**20 for one in samples)


@pytest.mark.timeout(120)
def test_a_run_records_resources_and_its_page_shows_them(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["run", "--target", "brpop", "--redis", "embedded", "--tasks", "10", "--faults", "none"]
    assert execute([*words, "--out", str(out)]) == 0
    events = load_history(out)
    result = judge(events)
    shown = {one.resource for one in result.usage}
    assert {"clients", "keys", "keys_expiring", "descriptors of a worker", "memory_bytes of a worker"} <= shown
    assert '<table id="resources">' in render(result, events)
    Survival(result, out).assert_no_leak()
    leaky = msgspec.structs.replace(result, verdict=Verdict.LEAK, leaks=[Leak("worker 7", "threads", 3, 30, 9)])
    Survival(leaky, out).assert_at_least_once()  # nothing was lost
    with pytest.raises(pytest.fail.Exception, match="threads of worker 7 grew from 3 to 30 over 9 disturbances"):
        Survival(leaky, out).assert_no_leak()
