"""Faults that the proxy injects: at a named point (`Strike`), or in all traffic (`Link`)."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from .peers import Ends
from .points import Phase, Point


class StrikeKind(StrEnum):
    """The kind of a fault at a point."""

    KILL = "kill"  # the worker's session is killed, in that phase
    DROP = "drop"  # before: the command vanishes; executed: its reply does. The connection stays, and is silent
    RESET = "reset"  # the connection is reset, in that phase
    CUT = "cut"  # half of the reply is relayed, then the connection is reset
    DELAY = "delay"  # the command (before) or its reply (executed) comes `delay_ms` late


@dataclass(frozen=True, kw_only=True)
class Strike:
    """One fault, injected once at one point.

    `kill`, for KILL only, ends the worker's session and returns when it is dead. Its argument is the ports of the
    connection that brought the command, so that `peers.owner` can identify the process.
    """

    point: Point
    kind: StrikeKind
    phase: Phase = Phase.BEFORE
    kill: Callable[[Ends], None] | None = None
    delay_ms: int = 0

    def __post_init__(self) -> None:
        if (self.kind is StrikeKind.KILL) != (self.kill is not None):
            raise ValueError("Set `kill` for the kind KILL, and for no other kind.")
        if self.kind is StrikeKind.CUT and self.phase is not Phase.EXECUTED:
            raise ValueError("A reply can be cut only once the command was executed.")
        if self.kind in (StrikeKind.DROP, StrikeKind.DELAY) and self.phase is Phase.AFTER:
            raise ValueError(f"{self.kind} is impossible in phase AFTER: the reply was already delivered.")


@dataclass(frozen=True, kw_only=True)
class Link:
    """The condition of the connections between a worker and the server. By default they are healthy.

    Data that a blackhole holds back arrives when it is lifted, as with TCP, unless the connection has ended.
    """

    delay_ms: int = 0
    """In each direction."""
    jitter_ms: int = 0
    """Maximum of an additional delay, drawn for each piece of data. Pieces never overtake each other."""
    seed: int = 0
    """Seed of the jitter and of the choice of replies to cut."""
    bytes_per_s: int | None = None
    """In each direction; None: no limit."""
    to_server_lost: bool = False
    to_worker_lost: bool = False
    cut_share: float = 0.0
    """Share of the replies that are cut in the middle; the connection is then reset."""
    refuse: bool = False
    """Whether new connections are reset. Open ones stay."""

    @property
    def clear(self) -> bool:
        return not (self.delay_ms or self.jitter_ms or self.bytes_per_s or self.to_server_lost or self.to_worker_lost)
