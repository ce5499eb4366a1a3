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
        return self.profile == "quick"


def circumstances_of(target: str, profile: str) -> Circumstances:
    """Raises TargetError: there is no such target."""
    path = Path(inspect.getfile(load_target(target)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    commit = _commit(path.parent)
    return Circumstances(
        date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        source=f"{path.name}, sha256 {digest}" + (f", commit {commit}" if commit else ", no commit"),
        machine=f"{platform.system()} {platform.release()}, {platform.machine()}, {os.cpu_count()} processors",
        profile=profile,
    )


def _commit(directory: Path) -> str:
    """With `-dirty` where it has changes; empty: git knows none, or is not there."""
    command = ["git", "-C", str(directory), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=GIT_DEADLINE_S).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
