"""Install a target's dependencies on demand: a virtual environment, npm and Debian packages, its own build."""

import hashlib
import importlib.util
import os
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from ..target import Target, title
from .packages import cache_directory, locked, made, node_modules, ruby_variables, run_quietly, unpacked

BUILD_VARIABLE = "ZEROLOSS_BUILD"
"""Names the folder in which a `build` runs, for build commands that change their directory."""

T = TypeVar("T", bound=Target)


def equipped(target: type[T], say: Callable[[str], None]) -> type[T]:
    """Install and build a target's dependencies; return the target with `python`, commands and `equipment` set.

    A target without dependencies is returned unchanged. The first word of a command, such as `celery`, is looked up
    in the installed folders first, and `sys.executable` becomes the Python of the environment. Raises TargetError.
    """
    folders: list[Path] = []
    members: dict[str, Any] = {}
    variables: dict[str, str] = {}
    if target.requirements and not target.python:
        folders.append(environment(target.requirements, say) / "bin")
        members["python"] = str(folders[0] / "python")
    if target.npm:
        modules = node_modules(target.npm, say)
        folders.append(modules / ".bin")
        variables["NODE_PATH"] = str(modules)
    if target.debian:
        root = unpacked(target.debian, say)
        folders += [root / "usr/bin"]
        variables |= ruby_variables(root)
    if target.build:
        folders.append(_built(target, _equipment(folders, variables), say))
    if not folders:
        return target
    members |= {"__doc__": target.__doc__, "__module__": target.__module__, "worker": _command(folders, target.worker)}
    members["equipment"] = _equipment(folders, variables)
    if target.producer:
        members["producer"] = _command(folders, target.producer)
    return type(target.__name__, (target,), members)


def environment(requirements: Sequence[str], say: Callable[[str], None]) -> Path:
    """Return the folder of the environment with these requirements; create it if it is missing.

    `say` gets progress lines. Raises TargetError: the creation failed; the text ends with pip's last output.
    """
    return made(key(requirements), requirements, _make, say)


def key(requirements: Sequence[str]) -> str:
    """Return an environment's name in the cache: a digest of the Python version and the sorted requirements."""
    text = "\n".join([platform.python_implementation(), platform.python_version(), *sorted(requirements)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _equipment(folders: Sequence[Path], variables: Mapping[str, str]) -> dict[str, str]:
    path = [*map(str, folders), os.environ.get("PATH", os.defpath)]
    return {**variables, "PATH": os.pathsep.join(path)}


def _built(target: type[Target], equipment: Mapping[str, str], say: Callable[[str], None]) -> Path:
    """Run the target's `build` and return its folder. Every run builds: the compiler skips what is up to date."""
    command = list(target.build)
    place = cache_directory() / "built" / hashlib.sha256("\n".join(command).encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    say(f"Build: {shlex.join(command)}")
    with locked(place.with_suffix(".lock")):
        # Compilers keep their caches below the home directory.
        env = {"HOME": str(Path.home()), **os.environ, **equipment, BUILD_VARIABLE: str(place)}
        run_quietly(command, env, f"`build` of the target {title(target)} failed", cwd=place)
    return place


def _command(folders: Sequence[Path], command: Sequence[str]) -> tuple[str, ...]:
    # `sys.executable` in a command means the environment's Python: the harness's own lacks the requirements.
    name = "python" if command[0] == sys.executable else command[0]
    programs = (folder / name for folder in folders)
    program = next((str(program) for program in programs if program.is_file()), command[0])
    return (program, *command[1:])


def _make(place: Path, requirements: Sequence[str]) -> None:
    # The new environment must not inherit the Python path and home with which the harness itself runs.
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET")}
    python = str(place / "bin" / "python")
    # Installing pip takes longer than installing a queue, so the harness's own pip is used where there is one.
    own_pip = importlib.util.find_spec("pip") is not None
    pip = [sys.executable, "-m", "pip", "--python", python] if own_pip else [python, "-m", "pip"]
    without = ["--without-pip"] if own_pip else []
    failed = f"The environment with {', '.join(requirements)} can't be made"
    run_quietly([sys.executable, "-m", "venv", *without, str(place)], env, failed)
    run_quietly([*pip, "install", "--quiet", "--no-input", *requirements], env, failed)
