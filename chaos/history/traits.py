"""`Traits`: what a fault is, as far as a judge needs it. Its class says so, and the history keeps it."""

from typing import Literal

import msgspec

Aim = Literal[
    "nothing", "worker", "idle worker", "command", "server", "network", "producer", "client", "clock", "handler"
]
"""What a fault aims at. A `worker` is meant to be inside a task, a `command` is one that a worker sends."""
ServerEnd = Literal["no", "killed", "stopped"]
"""Whether a fault ends the server: not at all, without warning, or in order."""


class Traits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Of one fault of a run, in the plan at `run` `begin` and in the fault's own `begin`."""

    aims_at: Aim | None = None
    """None: not stated."""
    baseline: bool = False
    """Nothing is done: the fault stands for its absence."""
    arranges: bool = False
    """The plan holds other tasks than it would without it."""
    everywhere: bool = False
    """It met the server, or what all workers need: none of them was out of its reach."""
    ends_server: ServerEnd = "no"
    ends_late: bool = False
    """The server goes on for seconds, and promises, before it is ended."""
    fails_over: bool = False
    """A replica takes the primary's place."""
    asks_to_end: bool = False
    """It asks workers to end, and leaves them the time that they take."""
    loses_replies: bool = False
    """The server executed commands whose replies it took."""
    cuts: bool = False
    """It closed connections, which could be opened again at once."""
    fills_memory: bool = False
    """The server's memory was full, and it refused whatever adds to it."""
    requeues: bool = False
    """It gave its tasks, which had been given up, all their attempts again."""
