"""A mutant of the protocol in this process, and gone again afterwards."""

import sys
from types import ModuleType
from typing import Any

import pytest

from chaos.mutants.mutant import FAMILIES, Mutant
from reference.connection import Script


def plant(mutant: Mutant, patch: pytest.MonkeyPatch) -> None:
    """Apply it by way of `patch`, which takes back what `chaos.mutants.patching` would leave for good."""

    def replace(owner: Any, name: str, replacement: Any) -> Any:
        original = getattr(owner, name)
        patch.setattr(owner, name, replacement)
        return original

    def edit(owner: Any, name: str, old: str, new: str) -> None:
        source = getattr(owner, name).source
        assert old in source
        patch.setattr(owner, name, Script(source.replace(old, new)))

    with pytest.MonkeyPatch.context() as short:
        for family in FAMILIES:
            module: ModuleType = sys.modules[f"chaos.mutants.{family}"]
            for name, stand_in in (("patch", replace), ("edit", edit)):
                if hasattr(module, name):
                    short.setattr(module, name, stand_in)
        mutant.apply()
