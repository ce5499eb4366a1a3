"""Faults, one per file. This package imports all its modules. May import system, checker, history and below.

`@fault` registers a class where it is defined, in a module of this package or in a plug-in. All that the planner, the
judge and the reports need is data on the class; see `Fault`.
"""

import importlib
import pkgutil

from .base import Effect, Fault, Missed, Stage
from .registry import FAULTS, fault, load_faults

__all__ = ["FAULTS", "Effect", "Fault", "Missed", "Stage", "fault", "load_faults"]

for _found in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_found.name)
