"""Time, machine and commit of a measurement."""

import os
import platform
import subprocess
import time
from pathlib import Path

GIT_DEADLINE_S = 10.0


def now() -> str:
    """Return the time in UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def machine() -> str:
    """Return the operating system, the processor type and the number of processors."""
    return f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} processors"


def commit_of(path: Path) -> str:
    """Return a file's commit, with `-dirty` if its work tree has changes; empty: no git, or the file is untracked."""
    # A work tree may contain files outside its commit, such as a virtual environment with its packages.
    if not _git(path.parent, "ls-files", path.name):
        return ""
    return _git(path.parent, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


def _git(directory: Path, *words: str) -> str:
    command = ["git", "-C", str(directory), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_DEADLINE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
