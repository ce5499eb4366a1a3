"""`Traits`: the properties of a fault that a judge needs. The fault's class states them, the history records them."""

from typing import Literal

import msgspec

Aim = Literal[
    "nothing", "worker", "idle worker", "command", "server", "network", "producer", "client", "clock", "handler"
]
"""What a fault aims at. A `worker` is meant to be inside a task, a `command` is one that a worker sends."""
ServerEnd = Literal["no", "killed", "stopped"]
"""Whether a fault ends the server: not at all, without warning, or in order."""


class Traits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Traits of one fault of a run, in the plan at `run` `begin` and in the fault's own `begin`."""

    aims_at: Aim | None = None
    """None: not stated."""
    baseline: bool = False
    """Whether it does nothing: it stands for the absence of faults."""
    arranges: bool = False
    """Whether the plan has other tasks than it would have without this fault."""
    everywhere: bool = False
    """Whether it hits the server, or something else that all workers need: no worker is out of its reach."""
    ends_server: ServerEnd = "no"
    ends_late: bool = False
    """Whether the server goes on and promises tasks for seconds before it is ended."""
    fails_over: bool = False
    """Whether a replica takes the primary's place."""
    asks_to_end: bool = False
    """Whether it asks workers to stop, and gives them the time that they take."""
    loses_replies: bool = False
    """Whether it drops replies to commands that the server executed."""
    cuts: bool = False
    """Whether it closes connections that can be opened again at once."""
    fills_memory: bool = False
    """Whether it fills the server's memory, so that the server refuses writes that add to it."""
    requeues: bool = False
    """Whether it requeues its tasks, which were dead letters, with all their attempts."""
    pauses: bool = False
    """Whether it pauses all claiming for the time that it lasts."""
