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
"""How safe a task must be before the target promises it; a target that knows none of it does not read it."""
DEFAULTS_VARIABLE = "ZEROLOSS_DEFAULTS"
"""`off`: no defaults are read from pyproject.toml, as in the commands that a campaign runs."""
SUSPENDED_VARIABLE = "ZEROLOSS_SUSPENDED_NS"
"""For how long the machine has been suspended since it was started: by so much a shell's clock is ahead of ours."""
SUSPENDED_NS_MIN = 10**7
"""Less is the time between two readings."""
_HERE = Path(__file__).resolve().parents[1]
_PACKAGE = "zeroloss"  # whatever its folder is called
_FOR_STRANGERS = ("__init__.py", "ledger.py", "client.py", "target.py", "asynchronous.py", "agent.py")


class Environment:
    """What a target's processes are started with."""

    def __init__(self, directory: Path, spec: str, target: Target, durability: str | None = None) -> None:
        """`durability`: how safe a task must be before it is promised; None: as the environment says."""
        self._directory = directory
        self._target = target
        self._durability = {} if durability is None else {DURABILITY_VARIABLE: durability}
        where = located(spec).rpartition(":")[0]
        self._shipped = where.startswith(f"{_PACKAGE}.targets.")
        self._beside_target = [str(Path(where).resolve().parent)] if where.endswith(".py") else []

    def of(self, command: Sequence[str]) -> dict[str, str]:
        """For one command. The target's own settings come last."""
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
        """The user's own `PYTHONPATH`; for another interpreter without what was installed for this one."""
        path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if program == sys.executable:
            return path
        return [entry for entry in path if Path(entry).name not in ("site-packages", "dist-packages")]

    def _ledger_path(self, program: str) -> str:
        """Another interpreter gets a folder with nothing but the few files that it needs; this one has them installed.

        Were it given the harness's `site-packages`, the harness's libraries would be tested in place of the target's.
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
