"""What the faults of zeroloss 0.1 do: its histories name them and say no more. Nothing is added here."""

from msgspec.structs import replace

from ..history import Aim, Traits

_AIMS: dict[str, Aim] = {
    "worker-": "worker",
    "server-": "server",
    "primary-": "server",
    "net-": "network",
    "handler-": "handler",
}
"""By how a name begins."""
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
    """Of a fault whose history does not say them, but for what its plan says."""
    aims_at = next((aim for prefix, aim in _AIMS.items() if name.startswith(prefix)), None)
    return replace(_TRAITS.get(name, Traits()), aims_at=aims_at, everywhere=everywhere)
