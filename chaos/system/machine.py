"""When, where and of which commit something was measured."""

import os
import platform
import subprocess
import time
from pathlib import Path

GIT_DEADLINE_S = 10.0


def now() -> str:
    """UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def machine() -> str:
    """System, processor and how many of them."""
    return f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} processors"


def commit_of(path: Path) -> str:
    """With `-dirty` where it has changes; empty: git does not track the file, or is not there."""
    # A work tree may hold what is not part of its commit, such as an environment with its packages.
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
