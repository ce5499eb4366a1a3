"""The environment of the target's processes, and where they find `zeroloss.ledger`."""

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..agent import DIRECTORY_OF_RUN_VARIABLE, NAMESPACE_VARIABLE
from ..history import EVENTS_DIRECTORY
from ..ledger import DIRECTORY_VARIABLE
from ..target import Target, located

NAMESPACE = "zeroloss"
DURABILITY_VARIABLE = "ZEROLOSS_DURABILITY"
"""The durability that a task needs before the target promises it. Targets without such a setting ignore it."""
DEFAULTS_VARIABLE = "ZEROLOSS_DEFAULTS"
"""`off`: ignore the defaults in pyproject.toml. Set for the commands that a campaign runs."""
SUSPENDED_VARIABLE = "ZEROLOSS_SUSPENDED_NS"
"""Nanoseconds the machine was suspended since its boot. /proc/uptime, a shell's clock, counts them; ours does not."""
SUSPENDED_NS_MIN = 10**7
"""A smaller difference is only the time between the two clock readings."""
_HERE = Path(__file__).resolve().parents[1]
_PACKAGE = "zeroloss"  # the import name; the source folder is called otherwise
_FOR_STRANGERS = ("__init__.py", "ledger.py", "client.py", "target.py", "asynchronous.py", "agent.py")


class Environment:
    """The environment variables of a target's processes."""

    def __init__(self, directory: Path, spec: str, target: Target, durability: str | None = None) -> None:
        """`durability`: the durability that a task needs before it is promised; None: inherit the variable."""
        self._directory = directory
        self._target = target
        self._durability = {} if durability is None else {DURABILITY_VARIABLE: durability}
        where = located(spec).rpartition(":")[0]
        self._shipped = where.startswith(f"{_PACKAGE}.targets.")
        self._beside_target = [str(Path(where).resolve().parent)] if where.endswith(".py") else []

    def of(self, command: Sequence[str]) -> dict[str, str]:
        """Return the environment for one command. The target's own `env` overrides all other values."""
        inherited: Mapping[str, str] = os.environ
        path = [self._ledger_path(command[0]), *self._beside_target, *self._inherited_path(command[0])]
        return {
            **inherited,
            **self._durability,
            **self._target.equipment,
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, path)),
            "REDIS_URL": self._target.redis_url,
            NAMESPACE_VARIABLE: self._target.namespace,
            DIRECTORY_VARIABLE: str(self._directory / EVENTS_DIRECTORY),
            DIRECTORY_OF_RUN_VARIABLE: str(self._directory),
            SUSPENDED_VARIABLE: str(_suspended_ns()),
            **self._target.env,
        }

    def _inherited_path(self, program: str) -> list[str]:
        """Return the user's `PYTHONPATH`; for another interpreter, without the `site-packages` of this one."""
        path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if program == sys.executable:
            return path
        return [entry for entry in path if Path(entry).name not in ("site-packages", "dist-packages")]

    def _ledger_path(self, program: str) -> str:
        """Return a folder with only the files that another interpreter needs; empty for this one, which has them.

        With the harness's `site-packages` on its path, the target would run with the harness's libraries.
        """
        if program == sys.executable:
            return ""
        library = self._directory / "lib"
        if not library.exists():
            package = library / _PACKAGE
            package.mkdir(parents=True)
            for name in _FOR_STRANGERS:
                shutil.copyfile(_HERE / name, package / name)
            if self._shipped:
                shutil.copytree(_HERE / "targets", package / "targets", ignore=shutil.ignore_patterns("__pycache__"))
        return str(library)


def _suspended_ns() -> int:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()
    return ns if ns > SUSPENDED_NS_MIN else 0
