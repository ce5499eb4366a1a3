"""What a target needs, made on demand: an environment with its `requirements` alone, packages, its own program."""

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
"""The folder in which a `build` runs, for one that goes elsewhere."""

T = TypeVar("T", bound=Target)


def equipped(target: type[T], say: Callable[[str], None]) -> type[T]:
    """The target with what it needs, installed and built: its `python`, its commands, its `equipment`.

    As it is if it needs nothing. A program such as `celery` at the head of a command is looked for there first, and
    `sys.executable` is the Python there. Raises TargetError.
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
    """The folder of the environment with these requirements, made if there is none. `say`: what takes its time.

    Raises TargetError: it can't be made; the text ends with what pip wrote last.
    """
    return made(key(requirements), requirements, _make, say)


def key(requirements: Sequence[str]) -> str:
    """Its name in the cache, the same wherever the same Python is to have the same requirements."""
    text = "\n".join([platform.python_implementation(), platform.python_version(), *sorted(requirements)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _equipment(folders: Sequence[Path], variables: Mapping[str, str]) -> dict[str, str]:
    path = [*map(str, folders), os.environ.get("PATH", os.defpath)]
    return {**variables, "PATH": os.pathsep.join(path)}


def _built(target: type[Target], equipment: Mapping[str, str], say: Callable[[str], None]) -> Path:
    """The folder in which its `build` was run, now: a compiler knows best what it need not do again."""
    command = list(target.build)
    place = cache_directory() / "built" / hashlib.sha256("\n".join(command).encode()).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    say(f"Build: {shlex.join(command)}")
    with locked(place.with_suffix(".lock")):
        # Compilers keep what they compiled below the home directory.
        env = {"HOME": str(Path.home()), **os.environ, **equipment, BUILD_VARIABLE: str(place)}
        run_quietly(command, env, f"`build` of the target {title(target)} failed", cwd=place)
    return place


def _command(folders: Sequence[Path], command: Sequence[str]) -> tuple[str, ...]:
    # `sys.executable` is how one names Python, and means the environment's: the harness's own has no requirements.
    name = "python" if command[0] == sys.executable else command[0]
    programs = (folder / name for folder in folders)
    program = next((str(program) for program in programs if program.is_file()), command[0])
    return (program, *command[1:])


def _make(place: Path, requirements: Sequence[str]) -> None:
    # The harness may itself run in an environment or with a path of its own; none of that is the new one's business.
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET")}
    python = str(place / "bin" / "python")
    # To install pip takes longer than to install a queue: where the harness has one, that does it.
    own_pip = importlib.util.find_spec("pip") is not None
    pip = [sys.executable, "-m", "pip", "--python", python] if own_pip else [python, "-m", "pip"]
    without = ["--without-pip"] if own_pip else []
    failed = f"The environment with {', '.join(requirements)} can't be made"
    run_quietly([sys.executable, "-m", "venv", *without, str(place)], env, failed)
    run_quietly([*pip, "install", "--quiet", "--no-input", *requirements], env, failed)
