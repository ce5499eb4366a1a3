"""Apply a mutant of the protocol in this process, and remove it afterwards."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import redis
from zeroloss.mutants.mutant import PROTOCOL, Mutant
from zeroloss.reference.queue.connection import Script

from .cast import Theatre
from .client import stepping_client

REPEATS = 10
"""Retries of redis-py by default."""


def plant(mutant: Mutant, theatre: Theatre, patch: pytest.MonkeyPatch) -> None:
    """Apply the mutant through `patch`, which undoes changes that `zeroloss.mutants.patching` would make permanently.

    Two mutants create a client or read a clock of their own: they get the schedule's.
    """
    patch.setenv("REDIS_URL", theatre.url)

    def replace(owner: Any, name: str, replacement: Any) -> Any:
        original = getattr(owner, name)
        patch.setattr(owner, name, replacement)
        return original

    def edit(owner: Any, name: str, old: str, new: str) -> None:
        source = getattr(owner, name).source
        assert old in source
        patch.setattr(owner, name, Script(source.replace(old, new)))

    repeating = SimpleNamespace(
        Redis=lambda **_: stepping_client(theatre.url, REPEATS),
        connection=redis.connection,
        RedisError=redis.RedisError,
    )
    patch.setattr("zeroloss.mutants.producing.redis", repeating)
    patch.setattr("zeroloss.mutants.recovering.time", SimpleNamespace(time_ns=lambda: theatre.time_ns()))
    with pytest.MonkeyPatch.context() as short:
        for name, stand_in in (("patch", replace), ("edit", edit)):
            for module_name in ("patching", *PROTOCOL):
                module: ModuleType = sys.modules[f"zeroloss.mutants.{module_name}"]
                if hasattr(module, name):
                    short.setattr(module, name, stand_in)
        mutant.apply()
