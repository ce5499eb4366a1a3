"""The faults and workloads of the mutants' runs: the cheapest that show their defects.

The reference itself must pass under each profile: otherwise catching a mutant there would mean nothing.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from ..target import APPENDFSYNC, Target

if TYPE_CHECKING:
    from ..plan.plan import Plan


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One small run."""

    name: str
    faults: str
    """As on the command line, `mix` included."""
    tasks: int
    workers: int = 2
    work_ms: tuple[int, int] | None = None
    """The shortest and the longest task body, ms; None: as the plan draws them."""
    stretch: float = 1.0
    """Factor for all times of the plan; a larger one thins the traffic."""
    at_once: bool = False
    """Whether all tasks are submitted at the start, so that there is no later traffic."""
    behaviours: Mapping[str, int] = field(default_factory=dict)
    """Kind of misbehaviour -> number of tasks; -1: all."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of the queue, in addition to `SHORT`."""
    attempts: int = 1
    """Maximum number of a client's requests for one task, under one idempotency key."""
    odd_clocks: bool = False
    """Whether the clocks of the target's processes are an hour ahead or behind."""
    appendfsync: APPENDFSYNC = "off"
    durability: str | None = None
    """The durability that a task needs before it is promised, as for `zeroloss run --durability`."""
    cluster: bool = False
    """Whether the run uses a Redis Cluster and the sharded reference, whatever server the other profiles use."""
    varied: bool = False
    """Whether the tasks are as varied as the reference states to support, like those of `zeroloss run`."""

    def plan(self, *, seed: int, target: str, server: str) -> "Plan":
        """Return the plan of a run, drawn from the seed."""
        # Imported here: a run starts a mutant's processes a hundred times, and they plan nothing.
        from ..plan.mix import draw_mix
        from ..plan.plan import make_plan
        from ..plan.requests import MIX, parse_faults
        from ..targets.reference import Reference

        server = "cluster" if self.cluster else server
        stated = Reference if self.varied else Target
        if self.faults == MIX:
            faults = draw_mix(
                seed,
                kills=None,
                server=server,
                appendfsync=self.appendfsync,
                workers=self.workers,
                target=stated,
            )
        else:
            faults = parse_faults(self.faults, None)
        plan = make_plan(
            seed=seed,
            target=target,
            server=server,
            appendfsync=self.appendfsync,
            workers=self.workers,
            tasks=self.tasks,
            faults=faults,
            durability=self.durability,
            stated=stated,
            recover_within_s=Reference.recover_within if self is DEFAULT else RECOVER_WITHIN_S,
        )
        draw = random.Random(f"profile:{self.name}:{seed}")
        behaviours: list[str] = []
        for name, count in self.behaviours.items():
            behaviours += [name] * (self.tasks if count < 0 else count)
        behaviours += [""] * (self.tasks - len(behaviours))
        draw.shuffle(behaviours)
        tasks = [
            msgspec.structs.replace(
                task,
                at_s=0.0 if self.at_once else self.stretch * task.at_s,
                work_ms=draw.randint(*self.work_ms) if self.work_ms else task.work_ms,
                behaviour=behaviour or task.behaviour,
                fault=0 if self.at_once else task.fault,
            )
            for task, behaviour in zip(plan.tasks, behaviours, strict=True)
        ]
        later = [msgspec.structs.replace(fault, at_s=self.stretch * fault.at_s) for fault in plan.faults]
        return msgspec.structs.replace(plan, tasks=tasks, faults=later)


LEASE_MS, SWEEP_MS = 1_000, 200
SHORT = {
    "ZEROLOSS_LEASE_MS": str(LEASE_MS),
    "ZEROLOSS_RENEW_MS": "300",
    "ZEROLOSS_SWEEP_MS": str(SWEEP_MS),
    "ZEROLOSS_BLOCK_MS": "200",
    "ZEROLOSS_BACKOFF_MS": "50",
    "ZEROLOSS_BACKOFF_MAX_MS": "200",
    "ZEROLOSS_MAX_RETRIES": "2",
    "ZEROLOSS_GRACE_MS": "2000",
}
"""Settings that make a run short."""
RECOVER_WITHIN_S = (LEASE_MS + SWEEP_MS) / 1000 + 0.5

CALM = Profile(name="calm", faults="none", tasks=120)
VARIED = Profile(name="varied", faults="none", tasks=400, varied=True)
VARIED_FAILING = replace(VARIED, name="varied-failing", behaviours={"raise-once": 100})
BACKLOG = Profile(name="backlog", faults="none", tasks=200, work_ms=(200, 400), at_once=True)
KILLS = Profile(name="kills", faults="worker-sigkill:count=4", tasks=120)
HANDLERS = Profile(
    name="handlers",
    faults="none",
    tasks=100,
    behaviours={
        "raise-once": 20,
        "raise-always": 4,
        "raise-later": 3,
        "raise-system-exit": 3,
        "raise-memory-error": 3,
        "unknown-type": 3,
        "undecodable": 3,
        "reject": 3,
        "misfit": 3,
        "lazy": 3,
        "unretried": 3,
    },
)
POISON = Profile(
    name="poison",
    faults="none",
    tasks=60,
    behaviours={"exit": 1},
    settings={"ZEROLOSS_MAX_RECOVERIES": "2", "ZEROLOSS_ISOLATE_AFTER": "1"},
)
QUIET = Profile(name="quiet", faults="worker-sigkill:count=1", tasks=8, work_ms=(2_500, 3_000), at_once=True)
PLANTED = Profile(name="planted", faults="none", tasks=60, behaviours={"orphan": 3, "orphan-undecodable": 2})
SIGTERM = Profile(name="sigterm", faults="worker-sigterm:count=4", tasks=200, settings={"ZEROLOSS_AHEAD_MS": "1000"})
SIGTERM_TWICE = replace(SIGTERM, name="sigterm-twice", faults="worker-sigterm:count=4:twice=true")
SIGINT = Profile(
    name="sigint",
    faults="worker-sigint:count=2",
    tasks=200,
    work_ms=(200, 800),
    # There must be tasks until the last fault.
    stretch=3.0,
)
LET_GO = Profile(
    name="let-go",
    faults="worker-sigterm:count=3",
    tasks=40,
    # Longer than the time after which another worker may claim the tasks.
    work_ms=(3_500, 4_000),
    stretch=4.0,
    settings={"ZEROLOSS_GRACE_MS": "10000"},
)
FULL_MEMORY = Profile(
    name="full-memory",
    faults="server-maxmemory:count=1",
    tasks=300,
    # Tasks are submitted throughout the fault.
    stretch=5.0,
    behaviours={"raise-once": 100},
)
HUNG_BESIDE = Profile(name="hung-beside", faults="server-maxmemory:count=1", tasks=400, varied=True)
FULL_BACKLOG = Profile(
    name="full-backlog",
    faults="server-maxmemory:count=1",
    tasks=400,
    # Many tasks wait, and some of them fail, on every worker; other tasks are submitted meanwhile.
    work_ms=(400, 700),
    stretch=2.0,
    behaviours={"raise-once": 150},
)
ZOMBIE = Profile(
    name="zombie",
    # Only one: a second fault could seem to explain the effects of the first zombie.
    faults="worker-sigstop:count=1:for_s=2.5",
    tasks=60,
    work_ms=(100, 400),
    behaviours={"raise-once": -1},
    settings={"ZEROLOSS_MAX_RECOVERIES": "20"},
)
ASLEEP = Profile(
    name="asleep",
    faults="asleep-sigkill:count=5:for_s=2.5",
    tasks=28,
    workers=3,
    work_ms=(5, 20),
    # Few tasks, so that a claim is still blocked when its lease ends, and is served after that.
    stretch=3.0,
    settings={
        "ZEROLOSS_LEASE_MS": "600",
        "ZEROLOSS_RENEW_MS": "200",
        "ZEROLOSS_SWEEP_MS": "100",
        "ZEROLOSS_BLOCK_MS": "8000",
    },
)
DENIED = Profile(name="denied", faults="server-denies:command=xadd", tasks=200, behaviours={"raise-always": 80})
STALL = Profile(
    name="stall",
    faults="server-sigstop:count=1:for_s=7",
    tasks=250,
    work_ms=(100, 400),
    # Leases outlive the stall, so that only replies are lost.
    settings={"ZEROLOSS_LEASE_MS": "20000", "ZEROLOSS_RENEW_MS": "1000"},
    attempts=5,
)
STALL_ASKED_ONCE = replace(STALL, name="stall-asked-once", attempts=1)
STALL_BUSY = replace(
    STALL,
    name="stall-busy",
    faults="server-sigstop:count=1:for_s=7:patience_s=10",
    tasks=200,
    work_ms=(100, 200),
    at_once=True,
    # With room for prefetched tasks, each ack also claims.
    settings={**STALL.settings, "ZEROLOSS_AHEAD_MS": "500"},
)
DOWN = Profile(name="down", faults="server-sigkill:count=2", tasks=200, appendfsync="always")
SLOW_DISK = Profile(
    name="slow-disk",
    faults="server-slow-fsync:count=1:for_s=1:kill=true",
    # Too few for a burst: some tasks must be promised in the last half second before the crash ...
    tasks=99,
    stretch=8.0,
    # ... and must wait until then.
    work_ms=(300, 500),
    appendfsync="everysec",
    durability="fsync",
    settings={"ZEROLOSS_DURABILITY_TIMEOUT_MS": "100", "ZEROLOSS_THREADS": "1"},
)
BAD_LINE = Profile(
    name="bad-line",
    faults="net-reply-loss:count=3:for_s=4:share=0.3",
    tasks=300,
    # There must be tasks until the last fault.
    stretch=2.0,
    behaviours={"raise-once": -1},
    settings={"ZEROLOSS_MAX_RECOVERIES": "40", "ZEROLOSS_AHEAD_MS": "500"},
    attempts=5,
)
LOST_REPLIES = Profile(name="lost-replies", faults="client-reply-loss:share=0.4:for_s=4", tasks=200)
CLOCKS = Profile(name="clocks", faults="worker-sigkill:count=3", tasks=80, workers=3, odd_clocks=True)
FULL = Profile(name="full", faults="none", tasks=200, settings={"ZEROLOSS_MAX_PENDING": "20"})
RECONNECTS = Profile(
    # One cut per fault: a storm of cuts would use up the descriptors of a process that leaks. Many faults: those that
    # occur while the workers still start, which takes seconds on a busy machine, show nothing.
    name="reconnects",
    faults="client-kill:count=16:for_s=0.1:every_s=0.2",
    tasks=200,
    stretch=1.5,
    behaviours={"raise-once": 100},
)
BURST = Profile(
    name="burst",
    faults="worker-sigkill:count=2",
    tasks=1_500,
    work_ms=(10, 20),
    stretch=0.1,
    at_once=True,
    # Each worker holds hundreds of tasks.
    settings={"ZEROLOSS_AHEAD_MS": "1000"},
)
DUE_TOGETHER = Profile(
    name="due-together",
    # All tasks have failed when the fault begins, and are due when it ends.
    faults="client-pause:count=1:for_s=6",
    tasks=1_200,
    work_ms=(0, 2),
    stretch=0.3,
    at_once=True,
    behaviours={"raise-once": -1},
    settings={"ZEROLOSS_BACKOFF_MS": "4000", "ZEROLOSS_BACKOFF_MAX_MS": "4000"},
)
# Longer than the reference's time limit plus the judge's margin; half of it must be observed.
HANGING = Profile(name="hanging", faults="handler-hangs:tasks=6:for_s=11.8", tasks=60)
REQUEUED = Profile(name="requeued", faults="client-requeues:early=8", tasks=80, varied=True)
FULL_HANDS = Profile(name="full-hands", faults="worker-sigkill-full:count=1", tasks=1_000, stretch=3.0, varied=True)
GIVEN_BACK = replace(FULL_HANDS, name="given-back", faults="worker-sigterm-full:count=1")
PAUSED = Profile(name="paused", faults="client-pauses:count=1", tasks=600, varied=True)
CLUSTER = Profile(name="cluster", faults="none", tasks=120, cluster=True)
RESHARDED = Profile(
    name="resharded",
    faults="cluster-reshard:count=1:back=false",
    # Many tasks must be waiting when the slot has moved.
    tasks=100,
    stretch=3.0,
    work_ms=(300, 500),
    cluster=True,
    settings={"ZEROLOSS_THREADS": "1"},
)
DIVIDED = Profile(
    name="divided",
    faults="cluster-partition:count=2",
    # Some tasks must be promised while the primary is isolated, and wait until the partition heals.
    tasks=120,
    stretch=8.0,
    work_ms=(300, 500),
    cluster=True,
    appendfsync="always",
    durability="replicas:1",
    settings={"ZEROLOSS_DURABILITY_TIMEOUT_MS": "100", "ZEROLOSS_THREADS": "1"},
)
DEFAULT = Profile(name="default", faults="mix", tasks=2_000, workers=3, appendfsync="always", varied=True)
"""The same as `zeroloss run` without options."""

PROFILES = {
    profile.name: profile
    for profile in (
        CALM,
        VARIED,
        VARIED_FAILING,
        BACKLOG,
        KILLS,
        HANDLERS,
        POISON,
        QUIET,
        PLANTED,
        SIGTERM,
        SIGTERM_TWICE,
        SIGINT,
        LET_GO,
        FULL_MEMORY,
        HUNG_BESIDE,
        FULL_BACKLOG,
        DENIED,
        ZOMBIE,
        ASLEEP,
        STALL,
        STALL_ASKED_ONCE,
        STALL_BUSY,
        DOWN,
        SLOW_DISK,
        BAD_LINE,
        LOST_REPLIES,
        CLOCKS,
        FULL,
        RECONNECTS,
        BURST,
        DUE_TOGETHER,
        REQUEUED,
        HANGING,
        FULL_HANDS,
        GIVEN_BACK,
        PAUSED,
        CLUSTER,
        RESHARDED,
        DIVIDED,
        DEFAULT,
    )
}
