"""`--faults mix`, the default: mostly kills of workers in the middle of their tasks, and a few faults drawn."""

import random
from collections import Counter
from collections.abc import Iterable

from ..faults import FAULTS, load_faults
from ..target import Target
from .fitting import may_be_mixed
from .plan import PlannedFault
from .requests import FaultRequest, checked_kills, parse_faults

DRAWN = 5
OF_THE_TARGET, KILLS_BESIDE = 5, 10
"""That many are drawn of those that a target lists; in a small run one for each ten kills."""
STAYS_DEAD_OF = 3
"""Of that many workers one is not started again."""


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
    """What every queue must survive: that many kills (50 by default), one each of a few others, and some at the end.

    And what is for all targets that state something, as `target` may, and some of what it lists as its `mix`. `load`:
    Locust sends the tasks. Of three workers one stays dead, where there are enough kills. Faults that need something of
    the queue, such as scripts to be forgotten, are there only if the target lists them: where it is missing they take
    no effect, and a run without a defect would be INCONCLUSIVE.
    """
    known = [
        fault
        for fault in load_faults()
        if may_be_mixed(fault, target, server=server, appendfsync=appendfsync, load=load)
    ]
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
    of_the_target = random.Random(f"mix of the target:{seed}").sample(listed, chosen)
    of_the_target = [FaultRequest(one.fault, 1, one.options) for one in of_the_target]
    return [*kills_planned, *(FaultRequest(name, 1, {}) for name in sorted(drawn)), *of_the_target, *last]


def listed(faults: Iterable[PlannedFault]) -> str:
    """`50 worker-sigkill, 1 client-pause`, the most frequent first."""
    counts = Counter(fault.fault for fault in faults)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())
