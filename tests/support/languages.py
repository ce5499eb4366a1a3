"""Kill workers of the queues that `zeroloss init --language` writes; each language has a test file that uses this."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from zeroloss.cli import execute
from zeroloss.starter.write import TARGET

KILLS = int(os.environ.get("ZEROLOSS_LANGUAGE_KILLS") or 2)
"""Kills in each run; `ci/slow.sh` sets twelve."""
TASKS_A_KILL = 20
QUEUES = """
import json

import redis
from zeroloss_target import MyQueue


class Counted(MyQueue):
    def census(self):
        client = redis.Redis.from_url(self.redis_url)
        texts = client.lrange(f"{self.namespace}:pending", 0, -1) + client.zrange(f"{self.namespace}:held", 0, -1)
        return {json.loads(text)["id"]: "pending" for text in texts}


class Brpop(Counted):
    recover_within = 0.2


class Reliable(Counted):
    worker = (*MyQueue.worker, "reliable")
"""


def init(directory: Path, language: str) -> None:
    """Write the files of `zeroloss init`, and two targets beside them: one queue loses tasks, the other does not."""
    assert execute(["init", str(directory), "--language", language, "--recover-within", "2.5"]) == 0
    (directory / TARGET.parent / "queues.py").write_text(QUEUES)


def run(directory: Path, queue: str, *, faults: str = f"worker-sigkill:count={KILLS}") -> dict[str, Any]:
    """Run one of `QUEUES` under the faults, and return the contents of its result.json."""
    out = directory / queue
    command = [sys.executable, "-m", "zeroloss", "run", "--target", f"{TARGET.parent}/queues.py:{queue}"]
    command += ["--redis", "embedded", "--seed", "1", "--tasks", str(TASKS_A_KILL * KILLS), "--work-ms", "20:300"]
    # Go's compiler is installed as a Python package, beside the interpreter.
    env = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    ended = subprocess.run(
        [*command, "--faults", faults, "--out", str(out)],
        cwd=directory,
        env=env,
        capture_output=True,
        text=True,
        timeout=90 + 15 * KILLS,
        check=False,
    )
    assert (out / "result.json").exists(), ended.stdout + ended.stderr
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    assert ended.returncode == result["exit_code"], ended.stdout + ended.stderr
    return result


def assert_judged_rightly(directory: Path, language: str) -> None:
    """Kill workers in the middle of tasks: the BRPOP queue must lose these tasks, the queue with leases must not."""
    init(directory, language)
    lost, kept = run(directory, "Brpop"), run(directory, "Reliable")
    assert lost["verdict"] == "VIOLATION", lost["because"]
    assert lost["counts"]["LOST"] == lost["kills"]["mid_task"] == KILLS, lost["because"]
    assert kept["verdict"] == "PASS", kept["because"]
    assert kept["kills"]["mid_task"] == KILLS, kept["because"]
