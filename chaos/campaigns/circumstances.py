"""Under which circumstances a certificate was made: when, of which target, on which machine, with how much effort."""

import hashlib
import inspect
import os
import platform
import subprocess
import time
from pathlib import Path

import msgspec

from ..target import load_target

GIT_DEADLINE_S = 10.0


class Circumstances(msgspec.Struct, frozen=True, kw_only=True):
    """`date` is UTC. `source`: the digest of the target's file, and its commit where git knows one."""

    date: str
    source: str
    machine: str
    profile: str

    @property
    def quick(self) -> bool:
        return self.profile.startswith("quick")


def circumstances_of(target: str, profile: str) -> Circumstances:
    """Raises TargetError: there is no such target."""
    path = Path(inspect.getfile(load_target(target)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    commit = _commit(path)
    return Circumstances(
        date=now(),
        source=f"{path.name}, sha256 {digest}" + (f", commit {commit}" if commit else ", no commit"),
        machine=machine(),
        profile=profile,
    )


def now() -> str:
    """UTC."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())


def machine() -> str:
    return f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} processors"


def _commit(path: Path) -> str:
    """With `-dirty` where it has changes; empty: git does not track the file, or is not there."""
    # A work tree may hold what is no part of its commit, such as an environment with its packages.
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
