"""The targets: `zeroloss.mutants.target:MUTANT`; `…target:reference_PROFILE` is the reference in a mutant's place.

`…target:as_shipped_MUTANT` has the settings of the reference in place of those of the mutant's profile.

The classes are made on access, so that a plan can name them and be replayed.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..target import Retries
from ..targets.reference import ASYNCHRONOUS, ASYNCHRONOUS_BACKOFF_S, QUEUE, Reference
from ..targets.reference_shards import BALANCE_S, SHARDS, START_S, ReferenceShards
from .mutant import load_mutants
from .profiles import DEFAULT, PROFILES, RECOVER_WITHIN_S, SHORT, Profile

CONTROL = "reference_"
AS_SHIPPED = "as_shipped_"
LARGEST_VARIABLE = "ZEROLOSS_MAX_TASK_BYTES"
"""A setting that the reference's `payload_bytes_max` belongs to."""
_CLOCK = Path(__file__).resolve().parent / "clock"


def spec_of(name: str) -> str:
    """Return a plan's name for the target of this mutant, or of `reference_PROFILE`."""
    return f"{__name__}:{name.replace('-', '_')}"


def __getattr__(name: str) -> type[Reference]:
    if name.startswith(CONTROL) and name.removeprefix(CONTROL).replace("_", "-") in PROFILES:
        profile = PROFILES[name.removeprefix(CONTROL).replace("_", "-")]
        return _target(name.replace("_", "-"), ["zeroloss.reference"], profile)
    mutant = load_mutants().get(name.removeprefix(AS_SHIPPED).replace("_", "-"))
    if mutant is None:
        raise AttributeError(name)
    profile = DEFAULT if name.startswith(AS_SHIPPED) else mutant.profile
    return _target(mutant.name, ["zeroloss.mutants.process", mutant.family, mutant.name], profile)


def _target(title: str, module: Sequence[str], profile: Profile) -> type[Reference]:
    base = ReferenceShards if profile.cluster else Reference
    python = [sys.executable, "-m", *module]
    backoff: Sequence[tuple[float, float]]
    if profile is DEFAULT:
        settings, within_s = Reference.env, Reference.recover_within
        attempts, backoff = Reference.max_attempts, Reference.backoff
        by_type = Reference.retries_by_type
    else:
        settings = {LARGEST_VARIABLE: Reference.env[LARGEST_VARIABLE], **SHORT, **profile.settings}
        within_s = RECOVER_WITHIN_S
        attempts = 1 + int(settings["ZEROLOSS_MAX_RETRIES"])
        if profile.cluster:
            settings = {**settings, "ZEROLOSS_SHARDS": str(SHARDS)}
            within_s += BALANCE_S + START_S
        most_ms, own_ms = int(settings["ZEROLOSS_BACKOFF_MAX_MS"]), round(1_000 * ASYNCHRONOUS_BACKOFF_S)
        backoff = _backoff(int(settings["ZEROLOSS_BACKOFF_MS"]), most_ms, attempts)
        asynchronous = Retries(attempts, _backoff(own_ms, max(most_ms, own_ms), attempts))
        by_type = {**Reference.retries_by_type, ASYNCHRONOUS: asynchronous}
    if profile.odd_clocks:
        inherited = os.environ.get("PYTHONPATH", "")
        settings = {**settings, "PYTHONPATH": os.pathsep.join(filter(None, [str(_CLOCK), inherited]))}
    members = {
        "__doc__": f"The reference under the profile {profile.name}, as {title}.",
        "name": title,
        "command": python,
        "worker": (*python, *Reference.worker[len(QUEUE) :]),
        "producer": (*python, *Reference.producer[len(QUEUE) :]),
        "workers": profile.workers,
        "recover_within": within_s,
        "max_attempts": attempts,
        "backoff": backoff,
        "retries_by_type": by_type,
        "attempts": profile.attempts,
        "grace": int(settings.get("ZEROLOSS_GRACE_MS", "25000")) / 1000,
        "accepts": "ZEROLOSS_MAX_PENDING" not in settings,  # else tasks are refused by the profile
        "env": settings,
    }
    return type(title, (base,), members)


def _backoff(first_ms: int, most_ms: int, attempts: int) -> tuple[tuple[float, float], ...]:
    """Return the reference's shortest and longest wait after each failure, s: it doubles; jitter halves it at most."""
    longest_s = [min(most_ms, first_ms * 2**failures) / 1000 for failures in range(attempts - 1)]
    return tuple((longest / 2, longest) for longest in longest_s)
