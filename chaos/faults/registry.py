"""`@fault` registers a fault where it is defined."""

from typing import TypeVar, get_args

from ..history import Aim
from ..plugins import Registry
from .base import Fault

Class = TypeVar("Class", bound=type[Fault])

FAULTS: Registry[type[Fault]] = Registry("fault", "zeroloss.faults")
"""Name -> fault class: the shipped faults and those of the plug-ins loaded so far."""


def fault(made: Class) -> Class:
    """Register a fault under its `name`. Apply it above `@dataclass(frozen=True, kw_only=True)`.

    Raises TypeError if the class itself is not a dataclass, lacks a required member, or has an unknown `aims_at`.
    """
    missing = [name for name in ("name", "threatens", "aims_at") if not hasattr(made, name)]
    missing += sorted(getattr(made, "__abstractmethods__", ()))
    if missing:
        raise TypeError(f"the fault {made.__name__} must define {', '.join(missing)}")
    if made.aims_at not in get_args(Aim):
        raise TypeError(f"the fault {made.__name__} aims at {made.aims_at!r}; use one of {', '.join(get_args(Aim))}")
    if "__dataclass_fields__" not in vars(made):
        raise TypeError(f"the fault {made.__name__} must be a dataclass: @fault, and below it @dataclass(...)")
    FAULTS.add(made.name, made, made.__module__)
    return made


def load_faults() -> list[type[Fault]]:
    """Return all faults, including those of entry points, sorted by aim and name. Raises PluginError."""
    aims = get_args(Aim)
    return sorted(FAULTS.with_entry_points().values(), key=lambda one: (aims.index(one.aims_at), one.name))
