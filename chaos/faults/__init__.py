"""The faults, one file each. A new one is a frozen dataclass in a file of its own and a line here."""

from .asleep_sigkill import AsleepSigkill
from .client_gives_up import ClientGivesUp
from .client_kill import ClientKill
from .client_pause import ClientPause
from .client_retries import ClientRetries
from .clock_jump import ClockJump
from .fault import Effect, Fault, Missed, Stage
from .handler_exits import HandlerExits
from .handler_hangs import HandlerHangs
from .handler_outlives_lease import HandlerOutlivesLease
from .handler_raises import HandlerRaises
from .net_disconnect import NetDisconnect
from .net_latency import NetLatency
from .net_partition import NetPartition
from .net_reply_loss import NetReplyLoss
from .net_reply_reset import NetReplyReset
from .net_reset import NetReset
from .net_throttle import NetThrottle
from .none import NoFault
from .primary_cut_off import PrimaryCutOff
from .primary_sigkill import PrimarySigkill
from .producer_sigkill import ProducerSigkill
from .script_flush import ScriptFlush
from .server_disk_full import ServerDiskFull
from .server_evicts import ServerEvicts
from .server_maxmemory import ServerMaxmemory
from .server_sigkill import ServerSigkill
from .server_sigstop import ServerSigstop
from .server_sigterm import ServerSigterm
from .server_slow_fsync import ServerSlowFsync
from .server_torn_aof import ServerTornAof
from .slow import Slow, SlowIdle
from .worker_kill_in_recovery import WorkerKillInRecovery
from .worker_kill_storm import WorkerKillStorm
from .worker_memory import WorkerMemory
from .worker_sigint import WorkerSigint
from .worker_sigkill import WorkerSigkill
from .worker_sigkill_child import WorkerSigkillChild
from .worker_sigkill_parent import WorkerSigkillParent
from .worker_sigkill_quiet import WorkerSigkillQuiet
from .worker_sigstop import WorkerSigstop
from .worker_sigterm import WorkerSigterm
from .worker_sigterm_sigkill import WorkerSigtermSigkill

__all__ = ["FAULTS", "Effect", "Fault", "Missed", "Stage"]

FAULTS: dict[str, type[Fault]] = {
    fault.name: fault
    for fault in (
        NoFault,
        Slow,
        SlowIdle,
        WorkerSigkill,
        WorkerSigterm,
        WorkerSigint,
        WorkerSigstop,
        WorkerSigkillQuiet,
        WorkerSigkillParent,
        WorkerSigkillChild,
        WorkerSigtermSigkill,
        WorkerKillStorm,
        WorkerKillInRecovery,
        WorkerMemory,
        AsleepSigkill,
        ServerSigkill,
        ServerSigstop,
        ClientKill,
        ServerSigterm,
        ServerMaxmemory,
        ServerEvicts,
        ServerTornAof,
        ServerDiskFull,
        ServerSlowFsync,
        ClientPause,
        ScriptFlush,
        ProducerSigkill,
        ClientGivesUp,
        ClientRetries,
        ClockJump,
        HandlerRaises,
        HandlerHangs,
        HandlerExits,
        HandlerOutlivesLease,
        NetPartition,
        NetLatency,
        NetThrottle,
        NetReplyReset,
        NetReplyLoss,
        NetReset,
        PrimarySigkill,
        PrimaryCutOff,
        NetDisconnect,
    )
}
