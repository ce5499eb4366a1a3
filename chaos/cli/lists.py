"""Lists of what can be chosen: `faults`, `situations`, `behaviours`, `targets`."""

import dataclasses
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from .common import Plugins, app

if TYPE_CHECKING:
    from ..faults import Fault


@app.command
def faults(*, plugin: Plugins = ()) -> int:
    """List the faults: default count, options, what each does, and which laws it threatens.

    Args:
        plugin: A Python file that registers faults with @fault; any number of times.
    """
    from ..faults import FAULTS, load_faults
    from ..plugins import load_files

    load_files(plugin)
    for fault in load_faults():
        options = "".join(f":{field.name}={field.default}" for field in dataclasses.fields(fault))
        print(f"{fault.name}:count={fault.count}{options}")
        print(f"    {fault.summary()}")
        print(f"    {_effect_of(fault)} Threatens {', '.join(fault.threatens) or 'nothing'}.")
        if origin := FAULTS.origins.get(fault.name):
            print(f"    From {origin}.")
    return 0


def _effect_of(fault: "type[Fault]") -> str:
    """Return a sentence about the fault's aim, and its effect on the server."""
    end = {"killed": ", which is killed", "stopped": ", which is stopped in order"}.get(fault.ends_server, "")
    return f"Aims at {fault.aims_at}{end}{', and a replica takes its place' if fault.fails_over else ''}."


@app.command
def situations() -> int:
    """List the situations that `--demand` can require, and the states of the fault x state matrix."""
    from ..checker.situations import SITUATIONS, STATES

    table = Table("--demand", "is met when", box=None)
    for name, title in SITUATIONS.items():
        table.add_row(name, f"{title}.")
    for state, title in STATES.items():
        table.add_row(f"FAULT@{state}", f"The fault took effect while, for some task, {title}.")
    Console().print(table)
    return 0


@app.command
def behaviours() -> int:
    """List the ways in which a task can misbehave; `behaviour` in its payload names one."""
    from ..faults.behaviours import BEHAVIOURS

    table = Table("behaviour", "what happens", box=None)
    for name, title in BEHAVIOURS.items():
        table.add_row(name, f"{title[0].upper()}{title[1:]}.")
    Console().print(table)
    return 0


@app.command
def targets() -> int:
    """List the targets that are shipped, or installed by an entry point in zeroloss.targets."""
    from ..target import load_target, named_targets

    table = Table("target", "workers", "recovers within", "what it is", box=None)
    for name in named_targets():
        target = load_target(name)
        summary = (target.__doc__ or "").strip().partition("\n")[0]
        table.add_row(name, str(target.workers), f"{target.recover_within:g} s", summary)
    Console().print(table)
    return 0
