"""A running system for load tests, and Locust in a subprocess, because importing Locust patches the process."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from zeroloss.loadtests.system import System, running_system

from support.places import ROOT

PROFILES = ROOT / "loadtests" / "profiles"
LOCUST = (sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--only-summary")
SHORT = ("--users", "4", "--spawn-rate", "4", "--user-rate", "10", "--run-time", "2s", "--stop-timeout", "10s")
DEADLINE_S = 110
EFFECT = "enqueue -> effect"


@dataclass(frozen=True)
class Ended:
    """The result of a load test: Locust's exit status and its output."""

    status: int
    said: str

    @property
    def broken(self) -> list[str]:
        """The broken thresholds, by the lines at the end of the output."""
        return re.findall(r"^SLO broken: (.+)$", self.said, re.MULTILINE)


def run(*command: str, **environment: str) -> Ended:
    """Run a command in this repository to its end."""
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout)


def put_load(system: System, *options: str) -> Ended:
    """Put load on the system with Locust, for 2 s by default."""
    return run(*LOCUST, *SHORT, "--host", system.url, "--ledger", str(system.ledger), *options)


def rows(prefix: Path) -> list[dict[str, str]]:
    with Path(f"{prefix}_stats.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def effects(prefix: Path) -> dict[str, int]:
    """Return the number of tasks of each kind whose execution Locust observed."""
    return {row["Name"]: int(row["Request Count"]) for row in rows(prefix) if row["Type"] == EFFECT}


@pytest.fixture(scope="module", name="system")
def own_system() -> Iterator[System]:
    """`python -m zeroloss.reference up`, with handlers that write a ledger."""
    with running_system({}) as running:
        yield running
