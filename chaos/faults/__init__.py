"""The faults, one file each. A new one is a frozen dataclass in a file of its own and a line here."""

from .asleep_sigkill import AsleepSigkill
from .client_kill import ClientKill
from .fault import Effect, Fault, Missed, Stage
from .none import NoFault
from .server_sigkill import ServerSigkill
from .server_sigstop import ServerSigstop
from .worker_sigkill import WorkerSigkill
from .worker_sigstop import WorkerSigstop
from .worker_sigterm import WorkerSigterm

__all__ = ["FAULTS", "Effect", "Fault", "Missed", "Stage"]

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        NoFault,
        WorkerSigkill,
        WorkerSigterm,
        WorkerSigstop,
        AsleepSigkill,
        ServerSigkill,
        ServerSigstop,
        ClientKill,
    )
}
