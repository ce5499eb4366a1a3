"""Programs that tests run in separate processes."""

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.places import ROOT
from support.waiting import wait_until


def tool(name: str, *arguments: str | Path) -> None:
    """Assert that a tool of this Python environment succeeds with these arguments."""
    command = [str(Path(sys.executable).parent / name), *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def system_tool(name: str, package: str, *arguments: str | Path, given: str | None = None) -> str:
    """Run a system program, assert exit status 0, and return its output. A missing program fails in CI, else skips."""
    if not shutil.which(name):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed: apt-get install {package}")
    command = [name, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def run_pytest(
    folder: Path, text: str, *arguments: str, name: str = "test_mine.py"
) -> subprocess.CompletedProcess[str]:
    """Run pytest on a test file with this text, in a user's project."""
    (folder / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    if not importlib.metadata.entry_points(group="pytest11", name="zeroloss"):
        command += ["-p", "zeroloss.pytest_plugin"]  # needed where the package is on the Python path but not installed
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def zeroloss(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """Start the command `zeroloss` in a folder."""
    # Without coverage: a signal that arrives in coverage's own code loses the exception of its handler.
    unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "zeroloss", *arguments],
        cwd=cwd,
        env={**unmeasured, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> str:
    """Return a port without a listener."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def over_unix_socket(server: str | Path, folder: Path) -> Iterator[Path]:
    """Run a Redis server that listens only on a Unix socket in the folder."""
    path = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", "", "--logfile", "server.log"]
    process = subprocess.Popen([server, *options])
    wait_until(path.exists)
    yield path
    process.terminate()
    process.wait(30)
