"""What the proxy does: at a named point (`Strike`), or to all that passes (`Link`)."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .points import Phase, Point


class StrikeKind(StrEnum):
    """What happens at a point."""

    KILL = "kill"  # the worker's session is killed, in that phase
    DROP = "drop"  # before: the command vanishes; executed: its reply does. The connection stays, and is silent
    RESET = "reset"  # the connection is reset, in that phase
    CUT = "cut"  # half of the reply is relayed, then the connection is reset
    DELAY = "delay"  # the command (before) or its reply (executed) comes `delay_ms` late


@dataclass(frozen=True, kw_only=True)
class Strike:
    """One thing to do once, at one point.

    `kill`, for KILL, ends the worker's session and returns when it is dead. It is called with the port from which the
    worker had sent the command, so that `peers.owner` can tell which of its processes that was.
    """

    point: Point
    kind: StrikeKind
    phase: Phase = Phase.BEFORE
    kill: Callable[[int], None] | None = None
    delay_ms: int = 0

    def __post_init__(self) -> None:
        if (self.kind is StrikeKind.KILL) != (self.kill is not None):
            raise ValueError("A kill, and nothing else, says how to kill.")
        if self.kind is StrikeKind.CUT and self.phase is not Phase.EXECUTED:
            raise ValueError("A reply can be cut only once the command was executed.")
        if self.kind in (StrikeKind.DROP, StrikeKind.DELAY) and self.phase is Phase.AFTER:
            raise ValueError(f"After the reply there is nothing left to {self.kind}.")


@dataclass(frozen=True, kw_only=True)
class Link:
    """The condition of the way between a worker and the server; as it is by default, nothing is wrong.

    What a blackhole holds back arrives when it is lifted, as TCP would have it, unless the connection has ended.
    """

    delay_ms: int = 0
    """Each way."""
    jitter_ms: int = 0
    """Up to so much more, drawn for each piece; none overtakes the one before it."""
    seed: int = 0
    """What the jitter, and which replies are cut, is drawn from."""
    bytes_per_s: int | None = None
    """Each way; None: no limit."""
    to_server_lost: bool = False
    to_worker_lost: bool = False
    cut_share: float = 0.0
    """That many of the replies are cut in their middle, and the connection is reset."""
    refuse: bool = False
    """New connections are reset; those that are open stay."""

    @property
    def clear(self) -> bool:
        return not (self.delay_ms or self.jitter_ms or self.bytes_per_s or self.to_server_lost or self.to_worker_lost)
