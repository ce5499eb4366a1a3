"""Traits of the faults of zeroloss 0.1, whose histories record names only. Nothing is added here."""

from msgspec.structs import replace

from ..history import Aim, Traits

_AIMS: dict[str, Aim] = {
    "worker-": "worker",
    "server-": "server",
    "primary-": "server",
    "net-": "network",
    "handler-": "handler",
}
"""Prefix of a fault's name -> what the fault aims at."""
_TRAITS = {
    "none": Traits(baseline=True),
    "slow": Traits(baseline=True, arranges=True),
    "slow-idle": Traits(baseline=True, arranges=True),
    "server-sigkill": Traits(ends_server="killed"),
    "server-torn-aof": Traits(ends_server="killed"),
    "server-disk-full": Traits(ends_server="killed"),
    "server-sigterm": Traits(ends_server="stopped"),
    "server-slow-fsync": Traits(ends_late=True),
    "primary-sigkill": Traits(fails_over=True),
    "primary-cut-off": Traits(fails_over=True),
    "net-reply-loss": Traits(loses_replies=True),
    "net-reply-reset": Traits(loses_replies=True),
}


def traits_of(name: str, *, everywhere: bool) -> Traits:
    """Return the traits of a fault by its name, where its history records none; `everywhere` is as the plan states."""
    aims_at = next((aim for prefix, aim in _AIMS.items() if name.startswith(prefix)), None)
    return replace(_TRAITS.get(name, Traits()), aims_at=aims_at, everywhere=everywhere)
