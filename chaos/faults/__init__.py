"""The faults, one file each. A new one is a frozen dataclass in a file of its own and a line here."""

from .fault import Effect, Fault, Missed, Stage
from .none import NoFault
from .server_sigkill import ServerSigkill
from .worker_sigkill import WorkerSigkill

__all__ = ["FAULTS", "Effect", "Fault", "Missed", "Stage"]

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        NoFault,
        WorkerSigkill,
        ServerSigkill,
    )
}
