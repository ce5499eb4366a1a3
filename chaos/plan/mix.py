"""`--faults mix`, the default: mostly kills of workers in the middle of their tasks, and a few faults drawn."""

import random
from collections import Counter
from collections.abc import Iterable

from ..faults import FAULTS, Fault, load_faults
from ..target import Target
from .fitting import may_be_mixed
from .plan import PlannedFault
from .requests import FaultRequest, checked_kills, parse_faults

DRAWN = 5
OF_THE_TARGET, KILLS_BESIDE = 5, 10
"""Number of faults drawn from the `mix` of a target; in a small run one for each `KILLS_BESIDE` kills."""
STAYS_DEAD_OF = 3
"""One in this many workers is not started again."""


def draw_mix(
    seed: int,
    *,
    kills: int | None,
    server: str,
    appendfsync: str,
    workers: int,
    target: type[Target] = Target,
    load: bool = False,
) -> list[FaultRequest]:
    """Return what every queue must survive: `kills` kills (default 50), a few other faults, and some at the end.

    Added are the faults for a property that `target` states, and some that it lists as its `mix`. One in three workers
    stays dead, if there are enough kills. A fault that needs a feature of the queue, such as Lua scripts, is included
    only if the target lists it: without the feature it takes no effect, and a run without a defect would be
    INCONCLUSIVE. `load`: Locust sends the tasks.
    """
    known = [
        fault
        for fault in load_faults()
        if may_be_mixed(fault, target, server=server, appendfsync=appendfsync, load=load)
    ]
    known = [fault for fault in known if not fault.in_turn or fault is _of_the_group(seed, known, fault.in_turn)]
    always = [fault for fault in known if fault.in_mix == "always"]
    others = [fault.name for fault in known if fault.in_mix == "drawn"]
    drawn = random.Random(f"mix:{seed}").sample(others, min(DRAWN, len(others)))
    drawn += [fault.name for fault in known if fault.in_mix == "once"]
    kills_planned = []
    for one in always:
        count = one.count if kills is None else checked_kills(kills)
        for_good = min(workers // STAYS_DEAD_OF, count - 1)
        kills_planned.append(FaultRequest(one.name, count - for_good, {}))
        kills_planned += [FaultRequest(one.name, for_good, {"stays_dead": True})] if for_good else []
    last = [
        FaultRequest(fault.name, fault.ends_mix, dict(fault.ends_mix_options), at_end=True)
        for fault in known
        if fault.ends_mix and fault.name in others
    ]
    listed = [
        one
        for word in target.mix
        for one in parse_faults(word, None)
        if may_be_mixed(FAULTS[one.fault], target, server=server, appendfsync=appendfsync, load=load)
    ]
    small = max(1, sum(one.count for one in kills_planned) // KILLS_BESIDE)
    chosen = min(OF_THE_TARGET, small, len(listed))
    draw = random.Random(f"options of the mix:{seed}")
    requests = [
        FaultRequest(name, 1, {option: draw.random() < 0.5 for option in FAULTS[name].drawn_options})
        for name in sorted(drawn)
    ]
    of_the_target = random.Random(f"mix of the target:{seed}").sample(listed, chosen)
    of_the_target = [FaultRequest(one.fault, 1, one.options) for one in of_the_target]
    return [*kills_planned, *requests, *of_the_target, *last]


def _of_the_group(seed: int, known: Iterable[type[Fault]], group: str) -> type[Fault]:
    """Return the fault of the group whose turn it is: the next seed has another one."""
    faults = sorted((fault for fault in known if fault.in_turn == group), key=lambda fault: fault.name)
    return faults[seed % len(faults)]


def listed(faults: Iterable[PlannedFault]) -> str:
    """Return the faults as `50 worker-sigkill, 1 client-pause`, the most frequent first."""
    counts = Counter(fault.fault for fault in faults)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
