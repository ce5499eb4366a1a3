"""Draws the tasks of a plan from its seed: sizes, spellings, types, batches, bodies and misbehaviour.

A queue has internal limits: 64 KiB, 100, 500 or 1,000 elements at a time, a lease. Tasks on one side of a limit show
nothing about the other, so the drawn tasks are on both.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from msgspec.structs import replace

from ..faults.behaviours import IN_BODY
from ..faults.planned import SMALL_BYTES_MAX, PlannedTask
from ..target import Target

TASK_MS_MIN, TASK_MS_MAX = 5, 400
LONG_MS_MIN, LONG_MS_MAX = 4_000, 9_000
LONG_ONE_IN = 160
LONG_UNTIL = 0.8
"""Share of the trickle after which no task has a long body, for which the end of the run would wait."""
SLOWER_MS_MIN, SLOWER_MS_MAX = 10, 40
HANG_MS = 5_000
BEYOND_S = 20.0
"""Seconds by which a body that hangs exceeds the target's time limit, if the target states one."""
BACKLOG_SHARE = 0.28
"""Share of the tasks submitted at the start. The rest trickles in, so that faults hit both an idle and a busy queue."""
EDGE_BYTES = 65_536
NEAR_THE_EDGE = (-1, 1, 0, -300, 300)
LARGE_BYTES_TOTAL = 4_000_000
"""Limit on the total size of all payloads above `SMALL_BYTES_MAX`, so that a run stays short."""
LARGE_TOGETHER, LARGE_SHARE = 5, 0.3
"""Number of large tasks at the start of the backlog, and the size of each as a share of the limit: together more than
one claim may take."""
VARIED_FROM = 100
LONG_TOGETHER, LONG_TOGETHER_MS = 4, 3_000
"""Number of long bodies at the start of a burst, and their length: their workers run the rest of it meanwhile."""
BURST_SIZES = (1_000, 1_001, 1_001, 1_001)
WHOLE = 2_000
"""Least number of tasks for a burst from `BURST_SIZES`, which is then half of them."""
EDGE_COUNT = 1_000
"""Size above which all tasks of a burst have one priority."""
FAILING_TOGETHER = 0.3
"""Share of a burst that raises once: the queue must retry all of these tasks at the same moment."""
SCHEDULED_TOGETHER = 0.92
"""Share of the backlog scheduled for one moment, in as few calls as possible, if the target states `delays`."""
FAILING_TOO = 0.28
"""Further share of a burst that raises once, if the target does not state `delays`."""
TOGETHER_MS = 2_500
SCHEDULED_ONE_IN = 40
"""One in this many other tasks is scheduled."""
DELAY_MS_MIN, DELAY_MS_MAX = 300, 6_000
URGENT_ONE_IN = 10
"""One in this many tasks has the highest priority, and another one the lowest."""
GIVEN_UP_TOGETHER = 0.11
"""Share of a burst that always raises: these tasks are given up at the same moment."""
GIVEN_UP_ONE_IN = 100
"""One in this many tasks always raises, at the end of a body that is long enough for a fault to hit it first."""
GIVEN_UP_MS = 700
SELDOM = {
    "raise-system-exit": 400,
    "raise-keyboard-interrupt": 400,
    "raise-memory-error": 400,
    "raise-later": 250,
    "exit-once": 700,
    "exit-twice": 1_000,
    "hang-once": 700,
    "reject": 200,
    "unretried": 400,
    "misfit": 300,
    "lazy": 500,
    "unknown-type": 500,
    "undecodable": 1_000,
}
"""Behaviour -> one in this many tasks misbehaves in this way, if the target supports it."""


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """The requested workload. `work_ms`: the shortest and the longest body; None: chosen here, some of them long."""

    count: int
    run_s: float
    work_ms: tuple[int, int] | None = None
    misbehave: bool = True
    """Whether tasks may fail; False in a baseline."""

    @property
    def varied(self) -> bool:
        """Whether there are bursts, long bodies and misbehaviour: not in a run of few tasks, which must be quick."""
        return self.count >= VARIED_FROM


def draw_tasks(draw: Random, ids: Sequence[str], wishes: Wishes, target: type[Target]) -> list[PlannedTask]:
    """Return the tasks in the order of their times, with only those features that the target states."""
    count = wishes.count
    tasks = _by_time(draw, ids, wishes)
    burst = range(0)
    if wishes.varied:
        # A plan too small for a burst of a thousand keeps most tasks outside the burst: faults wait for these.
        size = draw.choice(BURST_SIZES) if count >= WHOLE else count // 4 + 1
        first = draw.randrange(math.ceil(count * BACKLOG_SHARE), count - size + 1)
        burst = range(first, first + size)
        tasks = _together(tasks, burst)
        if not wishes.work_ms:
            tasks = _with_long_bodies(draw, tasks, burst)
        tasks = _in_batches(draw, tasks, burst, target.batch_max)
        if target.delays:
            tasks = _with_delays(draw, tasks, burst, target.batch_max)
    tasks = _with_sizes(draw, tasks, target)
    if wishes.varied and wishes.misbehave:
        tasks = _with_misdeeds(draw, tasks, burst, target)
    # A burst of more than a thousand has one priority, since a queue may keep a list for each. The other bursts show
    # which priority comes first.
    of_the_burst = _draw_priority(draw, target.priorities) if len(burst) > EDGE_COUNT else None
    numbers = "text" if target.raw_payloads else "doubles" if target.numbers == "double" else "whole"
    return [
        replace(
            task,
            type=_draw_type(draw, target.types, task.behaviour),
            raw=draw.random() < 0.5,
            numbers=numbers,
            priority=_draw_priority(draw, target.priorities)
            if of_the_burst is None or number not in burst
            else of_the_burst,
            spaced=numbers == "text" and draw.random() < 0.5,
        )
        for number, task in enumerate(tasks)
    ]


def _by_time(draw: Random, ids: Sequence[str], wishes: Wishes) -> list[PlannedTask]:
    backlog = math.ceil(wishes.count * BACKLOG_SHARE)
    trickle = sorted(round(draw.uniform(0.0, wishes.run_s), 3) for _ in range(wishes.count - backlog))
    least, most = wishes.work_ms or (TASK_MS_MIN, TASK_MS_MAX)
    return [
        # Log-uniform; a body may take 0 ms.
        PlannedTask(name, at_s, round(math.exp(draw.uniform(math.log(least + 1), math.log(most + 1))) - 1))
        for name, at_s in zip(ids, [0.0] * backlog + trickle, strict=True)
    ]


def _together(tasks: list[PlannedTask], burst: range) -> list[PlannedTask]:
    """Move a burst to one moment, and spread the other tasks over the run, so that faults find tasks at any time."""
    times_s = [task.at_s for task in tasks if task.at_s]
    others = [number for number, task in enumerate(tasks) if task.at_s and number not in burst]
    spread_s = {number: times_s[place * len(times_s) // len(others)] for place, number in enumerate(others)}
    burst_s = next((at_s for number, at_s in spread_s.items() if number >= burst.stop), tasks[-1].at_s)
    return [
        replace(task, at_s=burst_s if number in burst else spread_s.get(number, task.at_s))
        for number, task in enumerate(tasks)
    ]


def _with_long_bodies(draw: Random, tasks: list[PlannedTask], burst: range) -> list[PlannedTask]:
    """Set bodies of 0 ms in the first half of a burst, short ones in the second: claimed fast, then held for a while.

    A few at its start are long: their leases must last while the others run. So are a few tasks outside the burst.
    """
    half = burst.start + len(burst) // 2
    # Not in the backlog, which is done early: faults wait for long bodies during the whole run.
    elsewhere = [number for number in range(math.ceil(BACKLOG_SHARE * len(tasks)), len(tasks)) if number not in burst]
    early = elsewhere[: math.ceil(LONG_UNTIL * len(elsewhere))]
    long = set(draw.sample(early, len(tasks) // LONG_ONE_IN))
    made = []
    for number, task in enumerate(tasks):
        work_ms = task.work_ms
        if number in burst:
            work_ms = 0 if number < half else draw.randint(SLOWER_MS_MIN, SLOWER_MS_MAX)
            work_ms = LONG_TOGETHER_MS if number < burst.start + LONG_TOGETHER else work_ms
        elif number in long:
            work_ms = draw.randint(LONG_MS_MIN, LONG_MS_MAX)
        made.append(replace(task, work_ms=work_ms))
    return made


def _in_batches(draw: Random, tasks: list[PlannedTask], burst: range, batch_max: int) -> list[PlannedTask]:
    """Put the burst into as few calls as possible, and a few small groups elsewhere into one call each."""
    if batch_max < 2:
        return tasks
    made = list(tasks)
    number = 0
    for start in range(burst.start, burst.stop, batch_max):
        number += 1
        for place in range(start, min(start + batch_max, burst.stop)):
            made[place] = replace(made[place], batch=number)
    for _ in range(len(tasks) // 100):
        first = draw.randrange(math.ceil(BACKLOG_SHARE * len(tasks)), len(tasks))  # most of the backlog is one call
        group = range(first, min(first + draw.randint(2, min(20, batch_max)), len(tasks)))
        if any(made[place].batch for place in group):
            continue
        number += 1
        for place in group:
            made[place] = replace(made[place], batch=number, at_s=made[first].at_s)
    return made


def _with_sizes(draw: Random, tasks: list[PlannedTask], target: type[Target]) -> list[PlannedTask]:
    """Draw sizes: mostly small, some at the limit, around 64 KiB and in between, within `LARGE_BYTES_TOTAL`."""
    limit, count = target.payload_bytes_max, len(tasks)
    wanted = [limit] * min(1, count // 50)
    wanted += [EDGE_BYTES + NEAR_THE_EDGE[number % len(NEAR_THE_EDGE)] for number in range(min(10, count // 20))]
    wanted += [
        round(math.exp(draw.uniform(math.log(SMALL_BYTES_MAX), math.log(max(limit, SMALL_BYTES_MAX)))))
        for _ in range(count // 200)
    ]
    places = range(LARGE_TOGETHER if count >= VARIED_FROM else 0)
    together = dict.fromkeys(places, min(round(LARGE_SHARE * limit), LARGE_BYTES_TOTAL // 2 // LARGE_TOGETHER))
    large: list[int] = []
    for size in wanted:
        if SMALL_BYTES_MAX < size <= limit and sum(together.values()) + sum(large) + size <= LARGE_BYTES_TOTAL:
            large.append(size)
    sizes = dict(zip(draw.sample(range(len(together), count), len(large)), large, strict=True)) | together
    return [
        replace(task, size_bytes=sizes.get(number) or min(limit, int(SMALL_BYTES_MAX * draw.random() ** 3)))
        for number, task in enumerate(tasks)
    ]


def _with_delays(draw: Random, tasks: list[PlannedTask], burst: range, batch_max: int) -> list[PlannedTask]:
    """Schedule most of the backlog for one moment, in as few calls as possible, and some other tasks for any moment.

    These are half of the remaining backlog and a few elsewhere: a queue may limit the number of scheduled tasks.
    """
    made = list(tasks)
    together = range(round(SCHEDULED_TOGETHER * math.ceil(BACKLOG_SHARE * len(tasks))))
    first_free = 1 + max(task.batch for task in tasks)
    for place in together:
        batch = first_free + place // batch_max if batch_max > 1 else 0
        made[place] = replace(made[place], delay_ms=TOGETHER_MS, batch=batch)
    elsewhere = [place for place in range(len(tasks)) if place not in burst and place not in together]
    beside = [place for place in elsewhere if not tasks[place].at_s]
    for place in [*beside[::2], *draw.sample(elsewhere, len(elsewhere) // SCHEDULED_ONE_IN)]:
        made[place] = replace(made[place], delay_ms=draw.randint(DELAY_MS_MIN, DELAY_MS_MAX))
    return made


def hanging_ms(target: type[Target]) -> int:
    """Return how long a body hangs that is not ended by its time limit."""
    return HANG_MS if target.time_limit is None else round((target.time_limit + BEYOND_S) * 1_000)


def _draw_type(draw: Random, types: Sequence[str], behaviour: str) -> str:
    """Draw one of `types`; empty without any. A task that hangs has the first.

    A target may submit a task that hangs under a type with a time limit. The retries that `retries_by_type` states of
    another planned type would then not hold for the task.
    """
    drawn = draw.choice(types) if types else ""
    return types[0] if types and behaviour == "hang-once" else drawn


def _draw_priority(draw: Random, priorities: Sequence[str]) -> str:
    """Draw the first and the last once in `URGENT_ONE_IN` each, otherwise a middle one, or any of at most two."""
    if not priorities:
        return ""
    number = draw.randrange(URGENT_ONE_IN)
    if number < 2:
        return priorities[-number]
    return draw.choice(priorities[1:-1] or priorities)


def _with_misdeeds(draw: Random, tasks: list[PlannedTask], burst: range, target: type[Target]) -> list[PlannedTask]:
    made, told = list(tasks), frozenset(target.behaviours)
    places = list(burst)
    draw.shuffle(places)
    failing = FAILING_TOGETHER + (0 if target.delays else FAILING_TOO)
    for behaviour, share in (("raise-once", failing), ("raise-always", GIVEN_UP_TOGETHER)):
        if behaviour in told:
            chosen, places = places[: round(share * len(burst))], places[round(share * len(burst)) :]
            for place in chosen:
                made[place] = replace(made[place], behaviour=behaviour)
    elsewhere = [place for place in range(len(tasks)) if place not in burst]
    draw.shuffle(elsewhere)
    for _ in range(len(tasks) // GIVEN_UP_ONE_IN if "raise-always" in told else 0):
        place = elsewhere.pop()
        made[place] = replace(made[place], behaviour="raise-always", work_ms=GIVEN_UP_MS)
    hang_ms = hanging_ms(target)
    for behaviour, one_in in SELDOM.items():
        # Misbehaviour outside the body is for single tasks only: a batch must stay whole.
        fit = [place for place in elsewhere if behaviour in IN_BODY or not made[place].batch]
        chosen = fit[: len(tasks) // one_in if behaviour in told else 0]
        for place in chosen:
            work_ms = hang_ms if behaviour == "hang-once" else made[place].work_ms
            made[place] = replace(made[place], behaviour=behaviour, work_ms=work_ms)
        elsewhere = [place for place in elsewhere if place not in chosen]
    return made
