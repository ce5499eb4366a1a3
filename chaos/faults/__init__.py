"""Faults: one fault, one file; to be found here is to be known. May import system, checker, history and below.

`@fault` registers a class where it is defined, in a file below this package or in a plug-in. What the planner, the
judge and the reports need to know of it is data on its class; see `Fault`.
"""

import importlib
import pkgutil

from .base import Effect, Fault, Missed, Stage
from .registry import FAULTS, fault, load_faults

__all__ = ["FAULTS", "Effect", "Fault", "Missed", "Stage", "fault", "load_faults"]

for _found in pkgutil.walk_packages(__path__, f"{__name__}."):
    importlib.import_module(_found.name)
