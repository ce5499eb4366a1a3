"""Virtual environments made on demand: a target that states `requirements` gets an interpreter with these alone.

Each lies in a cache under a digest of the Python version and the requirements, is made once, and is never changed:
other requirements are another environment. Whoever makes one holds its lock; the others wait for it.
"""

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ..target import Target, TargetError

CACHE_VARIABLE = "ZEROLOSS_VENVS"
COMPLETE = "complete"
"""The file that an environment has when it is whole: one whose making was broken off is made again."""
INSTALL_DEADLINE_S = 600.0
ERROR_LINES = 3

T = TypeVar("T", bound=Target)


def equipped(target: type[T], say: Callable[[str], None]) -> type[T]:
    """The target with its own environment: its `python`, and that of its commands. As it is if it needs none.

    A program such as `celery` at the head of a command is looked for in the environment first, and `sys.executable`
    there is the environment's Python. Raises TargetError.
    """
    if not target.requirements or target.python:
        return target
    folder = environment(target.requirements, say) / "bin"
    commands = {"worker": _command(folder, target.worker)}
    if target.producer:
        commands["producer"] = _command(folder, target.producer)
    members = {"__doc__": target.__doc__, "__module__": target.__module__, "python": str(folder / "python")}
    return type(target.__name__, (target,), {**members, **commands})


def environment(requirements: Sequence[str], say: Callable[[str], None]) -> Path:
    """The folder of the environment with these requirements, made if there is none. `say`: what takes its time.

    Raises TargetError: it can't be made; the text ends with what pip wrote last.
    """
    cache = cache_directory()
    place = cache / key(requirements)
    if (place / COMPLETE).exists():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / f"{place.name}.lock"):
        if not (place / COMPLETE).exists():
            say(f"Environment: making {place} with {', '.join(requirements)} ...")
            _make(place, requirements)
            say("Environment: ready; the next run finds it there.")
    return place


def key(requirements: Sequence[str]) -> str:
    """Its name in the cache, the same wherever the same Python is to have the same requirements."""
    text = "\n".join([platform.python_implementation(), platform.python_version(), *sorted(requirements)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cache_directory() -> Path:
    """`ZEROLOSS_VENVS`, or a folder of the user's cache."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "zeroloss" / "venvs"


def _command(folder: Path, command: Sequence[str]) -> tuple[str, ...]:
    # `sys.executable` is how one names Python, and means the environment's: the harness's own has no requirements.
    program = folder / ("python" if command[0] == sys.executable else command[0])
    return (str(program) if program.is_file() else command[0], *command[1:])


def _make(place: Path, requirements: Sequence[str]) -> None:
    shutil.rmtree(place, ignore_errors=True)
    # The harness may itself run in an environment or with a path of its own; none of that is the new one's business.
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET")}
    python = str(place / "bin" / "python")
    # To install pip takes longer than to install a queue: where the harness has one, that does it.
    own_pip = importlib.util.find_spec("pip") is not None
    pip = [sys.executable, "-m", "pip", "--python", python] if own_pip else [python, "-m", "pip"]
    without = ["--without-pip"] if own_pip else []
    _run([sys.executable, "-m", "venv", *without, str(place)], env, requirements)
    _run([*pip, "install", "--quiet", "--no-input", *requirements], env, requirements)
    (place / COMPLETE).touch()


def _run(command: Sequence[str], env: dict[str, str], requirements: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S
        )
    except subprocess.TimeoutExpired:
        reason = f"it took longer than {INSTALL_DEADLINE_S:g} s"
    else:
        if done.returncode == 0:
            return
        reason = " ".join((done.stderr or done.stdout).strip().splitlines()[-ERROR_LINES:])
    raise TargetError(f"The environment with {', '.join(requirements)} can't be made: {reason}")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Nobody else, in this process or another, is in here. The lock falls with the process, however that ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
