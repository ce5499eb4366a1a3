"""The circumstances of a certificate: date, target, machine and effort."""

import hashlib
import inspect
from pathlib import Path

import msgspec

from ..system.machine import commit_of, machine, now
from ..target import load_target


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
    """Return the circumstances of a certificate that is made now. Raises TargetError: there is no such target."""
    path = Path(inspect.getfile(load_target(target)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    commit = commit_of(path)
    return Circumstances(
        date=now(),
        source=f"{path.name}, sha256 {digest}" + (f", commit {commit}" if commit else ", no commit"),
        machine=machine(),
        profile=profile,
    )
