"""A cache of folders with installed pip, npm or Debian packages, for targets in any language.

A folder is named by a digest of its contents, made once, and never changed: other packages get another folder. The
process that makes a folder holds its lock; other processes wait for it.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..target import TargetError

CACHE_VARIABLE = "ZEROLOSS_VENVS"
COMPLETE = "complete"
"""Marker file of a finished folder. A folder without it was interrupted in the making, and is made again."""
INSTALL_DEADLINE_S = 600.0
ERROR_LINES = 3
_APT = ("apt-get", "-qq", "-o", "Debug::NoLocking=true")


def cache_directory() -> Path:
    """Return `ZEROLOSS_VENVS`, or a folder in the user's cache."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "zeroloss" / "venvs"


def made(
    name: str, packages: Sequence[str], make: Callable[[Path, Sequence[str]], None], say: Callable[[str], None]
) -> Path:
    """Return the folder `name` in the cache; call `make(place, packages)` if it is missing. Raises TargetError."""
    place = cache_directory() / name
    if (place / COMPLETE).exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.with_name(f"{name}.lock")):
        if not (place / COMPLETE).exists():
            say(f"Environment: making {place} with {', '.join(packages)} ...")
            shutil.rmtree(place, ignore_errors=True)
            make(place, packages)
            (place / COMPLETE).touch()
            say("Environment: ready; the next run finds it there.")
    return place


def node_modules(packages: Sequence[str], say: Callable[[str], None]) -> Path:
    """Return a folder `node_modules` with these npm packages. Raises TargetError."""
    return made(_key("npm", packages), packages, _install_with_npm, say) / "node_modules"


def unpacked(packages: Sequence[str], say: Callable[[str], None]) -> Path:
    """Return a root directory with those of these Debian packages and their dependencies that the system lacks."""
    command = [*_APT, "install", "--no-install-recommends", "--simulate", *packages]
    listed = run_quietly(command, dict(os.environ), f"Debian's packages {', '.join(packages)} can't be installed")
    # Such as: Inst ruby-rack (2.2.22-0+deb12u2 Debian:12.12/oldstable [all])
    missing = sorted(line.split()[1] for line in listed.splitlines() if line.startswith("Inst "))
    if not missing:
        return made(_key("debian", []), ["nothing"], lambda place, _: place.mkdir(), lambda _: None)
    return made(_key("debian", [*packages, *missing]), missing, _unpack, say)


def ruby_variables(root: Path) -> dict[str, str]:
    """Return the variables by which Ruby finds libraries and gems below another root; empty if there are none."""
    shared = list(root.glob("usr/lib/*-linux-*"))
    if not shared:
        return {}
    libraries = [*root.glob("usr/lib/ruby/[0-9]*"), root / "usr/lib/ruby/vendor_ruby"]
    libraries += [*root.glob("usr/lib/*/ruby/[0-9]*"), *root.glob("usr/lib/*/ruby/vendor_ruby/[0-9]*")]
    found = {
        "LD_LIBRARY_PATH": shared,
        "RUBYLIB": libraries,
        "GEM_PATH": list(root.glob("usr/share/rubygems-integration/*")),
    }
    return {name: os.pathsep.join(map(str, paths)) for name, paths in found.items()}


def run_quietly(command: Sequence[str], env: Mapping[str, str], failed: str, cwd: Path | None = None) -> str:
    """Return the command's standard output. Raises TargetError: `failed`, and the command's last output."""
    try:
        done = subprocess.run(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INSTALL_DEADLINE_S,
        )
    except OSError as error:
        reason = f"{command[0]}: {error.strerror}"
    except subprocess.TimeoutExpired:
        reason = f"it took longer than {INSTALL_DEADLINE_S:g} s"
    else:
        if done.returncode == 0:
            return done.stdout
        reason = " ".join((done.stderr or done.stdout).strip().splitlines()[-ERROR_LINES:])
    raise TargetError(f"{failed}: {reason}")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock across all processes. It is released when the process ends, however that happens."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _key(kind: str, packages: Sequence[str]) -> str:
    return f"{kind}-{hashlib.sha256(chr(10).join(packages).encode()).hexdigest()[:16]}"


def _install_with_npm(place: Path, packages: Sequence[str]) -> None:
    place.mkdir()
    command = ["npm", "install", "--prefix", str(place), "--ignore-scripts", "--no-audit", "--no-fund", *packages]
    run_quietly(command, dict(os.environ), f"npm can't install {', '.join(packages)}", cwd=place)


def _unpack(place: Path, packages: Sequence[str]) -> None:
    place.mkdir()
    failed = f"Debian's packages {', '.join(packages)} can't be installed"
    archives = place / "archives"
    archives.mkdir()
    run_quietly([*_APT, "download", *packages], dict(os.environ), failed, cwd=archives)
    for archive in sorted(archives.glob("*.deb")):
        run_quietly(["dpkg-deb", "-x", str(archive), str(place)], dict(os.environ), failed)
    shutil.rmtree(archives)
