"""What the README shows is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import ROOT

README = (ROOT / "README.md").read_text()

WORKER = """
import json, os, time, redis
from zeroloss.ledger import effect
client = redis.Redis.from_url(os.environ["REDIS_URL"])
while True:
    if popped := client.brpop(["jobs"], timeout=1):
        payload = json.loads(popped[1])
        with effect(payload["id"], payload=payload):
            time.sleep(payload["work_ms"] / 1000)
"""


@pytest.mark.parametrize("name", ["MyQueue", "MyAsyncQueue"])
def test_the_readme_s_target_runs_as_it_stands_and_its_loss_is_found(tmp_path: Path, name: str) -> None:
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", README, re.S) if f"class {name}(" in block]
    (tmp_path / "mytarget.py").write_text(
        re.sub("= 30( |$)", "= 1 ", block, flags=re.M)
    )  # so that no test waits for half a minute
    (tmp_path / "myapp").mkdir()
    (tmp_path / "myapp" / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "zeroloss", "run", "--target", f"mytarget.py:{name}", "--redis", "embedded"]
    command += ["--seed", "1", "--tasks", "60", "--faults", "worker-sigkill", "--kills", "3", "--out", "run"]
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "VIOLATION" in ended.stdout
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"(?<!from )zeroloss (?:queue )?[a-z-]+", README))))
def test_every_command_that_the_readme_names_exists(command: str) -> None:
    words = command.replace("zeroloss", "python -m zeroloss").split()
    ended = subprocess.run(
        [sys.executable, *words[1:], "--help"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([\w./]+)\)", README))))
def test_every_file_that_the_readme_links_to_exists(path: str) -> None:
    assert (ROOT / path).exists()
