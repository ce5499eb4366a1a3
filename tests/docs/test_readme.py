"""The README and other pages show targets that run and commands that exist."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from support.places import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

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


def blocks(page: str) -> list[str]:
    """Return the Python blocks of a page."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def test_the_target_of_the_readme_is_the_one_of_the_tutorial() -> None:
    target, _ = blocks("README.md")
    assert target in blocks("docs/tutorial.md")  # the tutorial's test runs it


def test_the_target_with_an_asyncio_client_runs_as_it_stands_and_its_loss_is_found(tmp_path: Path) -> None:
    _, block = blocks("README.md")
    (tmp_path / "target.py").write_text(block)
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "zeroloss", "run", "--target", "target.py:AsyncJobs", "--redis", "embedded"]
    command += ["--seed", "1", "--tasks", "60", "--faults", "worker-sigkill", "--kills", "3", "--out", "run"]
    environment = {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "VIOLATION" in ended.stdout
    assert (tmp_path / "run" / "report.html").exists()


def test_every_command_and_option_that_a_page_shows_exists() -> None:
    reference = (ROOT / "docs" / "cli.md").read_text()
    sections = dict(re.findall(r"^##+ (zeroloss [^\n]+)\n(.*?)(?=^##|\Z)", reference, re.DOTALL | re.MULTILINE))
    unknown, commands = [], 0
    for page in PAGES:
        for name, options in shown(page.read_text()):
            commands += 1
            known = sections.get(name, "") + (sections["zeroloss queue"] if "queue" in name else "")
            if name not in sections:
                unknown.append((page.name, name))
            unknown += [
                (page.name, name, one)
                for one in options
                if one != "--help" and not re.search(rf"{one}(?![\w-])", known)
            ]
    assert unknown == []
    assert commands > 60, "nothing was found"


def shown(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the zeroloss commands in a page's code, each with its options."""
    code = re.findall(r"`([^`\n]+)`", text)
    code += [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    for line in code:
        if found := re.match(r"(?:\w+=\S+ )*zeroloss ((?:queue )?[a-z][a-z-]+)([^#]*)", line):
            yield f"zeroloss {found[1]}", re.findall(r"--[a-z][a-z-]+", found[2])
