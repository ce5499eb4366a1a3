"""Imports follow one direction, that of the data: `[tool.importlinter]` in pyproject.toml defines it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import ROOT

LINTER = Path(sys.executable).with_name("lint-imports")


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter over a copy of the harness."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200"}
    command = [LINTER, "--config", str(ROOT / "pyproject.toml"), "--no-cache"]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the harness under its installed name."""
    shutil.copytree(ROOT / "chaos", tmp_path / "zeroloss", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_no_package_of_the_harness_imports_one_above_it_and_no_modules_import_each_other(tree: Path) -> None:
    ended = lint(tree)
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize(
    ("module", "planted"),
    [
        ("checker/verdicts.py", "from ..run.nemesis import Nemesis"),
        ("history/events.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..plan.plan import Plan"),
        ("checker/evidence.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .judge import judge"),
    ],
    ids=["upwards", "upwards for a type only", "in a circle for a type only"],
)
def test_an_import_against_the_direction_is_found(tree: Path, module: str, planted: str) -> None:
    path = tree / "zeroloss" / module
    path.write_text(f"{path.read_text()}\n{planted}\n")
    ended = lint(tree)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "BROKEN" in ended.stdout
