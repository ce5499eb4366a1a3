"""The faults, one file each. A new one is a frozen dataclass in a file of its own and a line here."""

from .base import Effect, Fault, Missed, Stage
from .client.gives_up import ClientGivesUp
from .client.kill import ClientKill
from .client.pause import ClientPause
from .client.producer_sigkill import ProducerSigkill
from .client.producer_sigkill_batch import ProducerSigkillBatch
from .client.retries import ClientRetries
from .failover.cut_off import PrimaryCutOff
from .failover.sigkill import PrimarySigkill
from .handler.exits import HandlerExits
from .handler.exits_always import HandlerExitsAlways
from .handler.hangs import HandlerHangs
from .handler.outlives_lease import HandlerOutlivesLease
from .handler.raises import HandlerRaises
from .handler.raises_always import HandlerRaisesAlways
from .network.disconnect import NetDisconnect
from .network.latency import NetLatency
from .network.partition import NetPartition
from .network.reply_loss import NetReplyLoss
from .network.reply_reset import NetReplyReset
from .network.reset import NetReset
from .network.silence import NetSilence
from .network.throttle import NetThrottle
from .none import NoFault
from .server.clock_jump import ClockJump
from .server.disk_full import ServerDiskFull
from .server.evicts import ServerEvicts
from .server.maxmemory import ServerMaxmemory
from .server.script_flush import ScriptFlush
from .server.sigkill import ServerSigkill
from .server.sigstop import ServerSigstop
from .server.sigterm import ServerSigterm
from .server.slow_fsync import ServerSlowFsync
from .server.torn_aof import ServerTornAof
from .slow import Slow, SlowIdle
from .worker.asleep_sigkill import AsleepSigkill
from .worker.kill_in_recovery import WorkerKillInRecovery
from .worker.kill_storm import WorkerKillStorm
from .worker.memory import WorkerMemory
from .worker.sigint import WorkerSigint
from .worker.sigkill import WorkerSigkill
from .worker.sigkill_child import WorkerSigkillChild
from .worker.sigkill_parent import WorkerSigkillParent
from .worker.sigkill_quiet import WorkerSigkillQuiet
from .worker.sigstop import WorkerSigstop
from .worker.sigterm import WorkerSigterm
from .worker.sigterm_sigkill import WorkerSigtermSigkill

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
        ProducerSigkillBatch,
        ClientGivesUp,
        ClientRetries,
        ClockJump,
        HandlerRaises,
        HandlerRaisesAlways,
        HandlerHangs,
        HandlerExits,
        HandlerExitsAlways,
        HandlerOutlivesLease,
        NetPartition,
        NetLatency,
        NetThrottle,
        NetReplyReset,
        NetReplyLoss,
        NetReset,
        NetSilence,
        PrimarySigkill,
        PrimaryCutOff,
        NetDisconnect,
    )
}
