"""Programs that tests run in processes of their own."""

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
    """A checker of this environment says nothing against these files."""
    command = [str(Path(sys.executable).parent / name), *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def system_tool(name: str, package: str, *arguments: str | Path, given: str | None = None) -> str:
    """What a program of the system says of what it is given, ending with 0. CI must have it; a laptop need not."""
    if not shutil.which(name):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{name} is not installed: apt-get install {package}")
    command = [name, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def run_pytest(
    folder: Path, text: str, *arguments: str, name: str = "test_mine.py"
) -> subprocess.CompletedProcess[str]:
    """In a user's project."""
    (folder / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    if not importlib.metadata.entry_points(group="pytest11", name="zeroloss"):
        command += ["-p", "zeroloss.pytest_plugin"]  # as where this is not installed but lies on the Python path
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def zeroloss(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """The command of the harness, in a folder."""
    # Not measured: where a signal comes while coverage's own code runs, the exception of its handler is lost.
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
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@contextmanager
def over_unix_socket(server: str | Path, folder: Path) -> Iterator[Path]:
    """A Redis server that listens on a socket in the folder, and nowhere else."""
    path = folder / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder), "--save", "", "--logfile", "server.log"]
    process = subprocess.Popen([server, *options])
    wait_until(path.exists)
    yield path
    process.terminate()
    process.wait(10)
