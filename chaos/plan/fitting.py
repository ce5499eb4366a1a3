"""Checks whether a fault fits the server, the target and the load of a run."""

from collections.abc import Iterable

from ..faults import Fault, load_faults
from ..system.servers import CLUSTER_KINDS, SENTINEL_KINDS, URL_SCHEMES, SentinelServer
from ..system.servers.sentinel import NODES
from ..target import Target
from .requests import PlanError

_UNPROXIED = URL_SCHEMES[1:]
ALONE = ("embedded", "container")
"""The servers without replicas."""


def check_server(server: str, faults: Iterable[Fault]) -> None:
    """Raise PlanError if a fault needs another server, or if the server does not support it."""
    for fault in faults:
        if fault.needs_own_server and server.startswith(URL_SCHEMES):
            raise PlanError(
                "zeroloss does not kill a server that it did not start: use --redis embedded or --redis container."
            )
        if fault.in_container and server != "container":
            raise PlanError("Only a server in a container can be taken off its network: use --redis container.")
        if fault.through_proxy and server.startswith(_UNPROXIED):
            raise PlanError("The proxy, which the faults of the network need, supports redis:// URLs only.")
        if fault.in_cluster and server not in CLUSTER_KINDS:
            raise PlanError(f"--faults {fault.name} needs a cluster: use --redis cluster.")
        if fault.through_proxy and server in CLUSTER_KINDS:
            raise PlanError(f"--faults {fault.name} needs the proxy, which supports one server only.")
        if fault.fails_over and not fault.in_cluster and server not in SENTINEL_KINDS:
            raise PlanError(f"--faults {fault.name} needs a primary with replicas: use --redis sentinel.")
        if fault.needs_one_server and server in CLUSTER_KINDS:
            raise PlanError(f"--faults {fault.name} is for one server: use --redis embedded.")
        if fault.needs_one_server and server in SENTINEL_KINDS:
            planned = " or ".join(one.name for one in load_faults() if one.fails_over)
            raise PlanError(
                f"--faults {fault.name} is for one server, and Sentinel would fail over: use --redis embedded, or "
                f"--faults {planned}."
            )


def check_durability(durability: str | None, server: str) -> None:
    """Raise PlanError if a task must be on more replicas than the server has. A server with a URL is checked later."""
    wanted = int((durability or "").partition(":")[2] or 0)
    replicas = dict.fromkeys(ALONE, 0) | dict.fromkeys(SENTINEL_KINDS, NODES - 1) | dict.fromkeys(CLUSTER_KINDS, 1)
    has = replicas.get(server, wanted)
    if wanted > has:
        instead = f"; --redis {SentinelServer.kind} has {NODES - 1}" if wanted < NODES else ""
        raise PlanError(
            f"--durability {durability} can't be met: --redis {server} has {has or 'no'} replicas{instead}."
        )


def check_target(target: type[Target], faults: Iterable[Fault]) -> None:
    """Raise PlanError if a fault needs a capability that the target does not state."""
    for fault in faults:
        if fault.needs_batches and target.batch_max < fault.batch_least:
            least = f" of at least {fault.batch_least}" if fault.batch_least > 2 else ""
            raise PlanError(f"--faults {fault.name} needs a target with `enqueue_many` and a `batch_max`{least}.")
        if fault.needs_keys and not target.idempotent:
            raise PlanError(f"--faults {fault.name} needs a target that states that it is `idempotent`.")
        if fault.needs_requeue and not can_requeue(target):
            raise PlanError(
                f"--faults {fault.name} needs a target with `requeue`, whose `behaviours` name raise-always."
            )
        if fault.needs_pause and target.pauses_within is None:
            raise PlanError(f"--faults {fault.name} needs a target with `pause` that states `pauses_within`.")


def can_requeue(target: type[Target]) -> bool:
    """Return whether the target can requeue dead letters, and has tasks that become dead letters."""
    return target.requeue is not Target.requeue and "raise-always" in target.behaviours


def check_load(faults: Iterable[Fault]) -> None:
    """Raise PlanError if a fault needs tasks of the plan, or moves the producer away from Locust."""
    for fault in faults:
        if fault.arranges():
            raise PlanError(f"--faults {fault.name} needs tasks of its own, and under --load Locust sends its own.")
        if fault.moves_producer:
            raise PlanError(f"--faults {fault.name} moves the producer to another port, where Locust does not follow.")


def may_be_mixed(fault: type[Fault], target: type[Target], *, server: str, appendfsync: str, load: bool) -> bool:
    """Return whether the mix may include this fault.

    Under a load a fault can't have tasks made for it. A target is not tested for what it does not state. A fault that
    needs one server is only for a single server that the harness started. A fault that kills the server needs
    `appendfsync` always: otherwise lost writes are all that a run would show.
    """
    if load and (fault.arranges() or fault.moves_producer):
        return False
    unlisted = all(word.partition(":")[0] != fault.name for word in target.mix)
    if fault.needs_full_memory and not target.drains_when_full and unlisted:
        return False
    if (fault.needs_attempts and not target.attempts_grow) or (fault.needs_requeue and not can_requeue(target)):
        return False
    if fault.needs_pause and target.pauses_within is None:
        return False
    if fault.needs_recovery_order and not (target.recovers_in_order and target.batch_max >= fault.batch_least):
        return False
    if fault.through_proxy and server not in ALONE and not server.startswith(URL_SCHEMES[0]):
        return False
    if (fault.needs_keys and not target.idempotent) or (fault.needs_one_server and server.startswith(URL_SCHEMES)):
        return False
    try:
        check_server(server, [fault()])
    except PlanError:
        return False
    return fault.ends_server != "killed" or appendfsync == "always"
