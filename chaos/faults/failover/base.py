"""Shared code of the failovers: await replication, hit the primary, await the promotion, move the clients."""

from collections.abc import Callable

import redis

from ...system.servers import SentinelServer, ServerUnavailable
from ..base import Effect, InFlight, Missed, Stage, held_back, wait_for


def fail_over(
    stage: Stage, strike: Callable[[SentinelServer], str], *, follow_after_s: float, patience_s: float
) -> Effect:
    """Take the primary away with `strike`, wait for the promotion, and redirect the clients to the new primary.

    `strike` returns a clause for the evidence. Before it is called, all replicas have confirmed what was written until
    the fault began, so the loss of earlier tasks is never excused. The fault ends when clients reach the new primary,
    so the loss of tasks promised later is not excused either.

    Raises Missed if the server has no replicas, or none is promoted within `patience_s`.
    """
    server = stage.server
    if not isinstance(server, SentinelServer):
        raise Missed("This fault needs a primary with replicas under Sentinel.")
    in_flight = InFlight(stage)
    try:
        with held_back(stage) as waiting:
            offset = server.await_replicated()
            old, (_, old_epoch), old_run_id = server.primary, server.announced(), server.run_id()
            struck = strike(server)
        wait_for(stage, server.failed_over, patience_s, f"No replica was promoted within {patience_s:g} s.")
        stage.wait(follow_after_s)
        own_bytes = int(old.replication()["master_repl_offset"]) - offset if old.running else None
        clients = server.follow()
        _, epoch = server.announced()
        run_id = server.run_id()
    except (ServerUnavailable, redis.RedisError) as error:
        raise Missed(f"The failover did not take place: {str(error).rstrip('.')}.") from None
    if run_id == old_run_id:
        raise Missed(f"The server is the same as before: {run_id}.")
    alone = "" if own_bytes is None else f" the old one had gone on to {own_bytes:,} bytes past the last common write;"
    return Effect(
        evidence=f"{struck} while {waiting} promised tasks waited; Sentinel announced another primary, "
        f"{old_run_id[:8]} before and {run_id[:8]} after, epoch {old_epoch} and {epoch};{alone} {clients} connections "
        "were reset to follow.",
        tasks=in_flight.tasks(),
    )


def bring_back(stage: Stage) -> None:
    """Start the old primary again as a replica, which discards its unreplicated writes. Raises ServerUnavailable."""
    server = stage.server
    if isinstance(server, SentinelServer):
        server.revive()
        server.await_settled()
