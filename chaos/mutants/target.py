"""The targets: `zeroloss.mutants.target:MUTANT`; `…target:reference_PROFILE` is the reference in its place.

They are made when they are asked for, so that a plan can name them and be replayed.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ..targets.reference import Reference
from .mutant import load_mutants
from .profiles import PROFILES, RECOVER_WITHIN_S, SHORT, Profile

CONTROL = "reference_"
_CLOCK = Path(__file__).resolve().parent / "clock"


def spec_of(name: str) -> str:
    """How a plan names the target of this mutant, or of `reference_PROFILE`."""
    return f"{__name__}:{name.replace('-', '_')}"


def __getattr__(name: str) -> type[Reference]:
    if name.startswith(CONTROL) and name.removeprefix(CONTROL).replace("_", "-") in PROFILES:
        profile = PROFILES[name.removeprefix(CONTROL).replace("_", "-")]
        return _target(name.replace("_", "-"), ["zeroloss.reference"], profile)
    mutant = load_mutants().get(name.replace("_", "-"))
    if mutant is None:
        raise AttributeError(name)
    return _target(mutant.name, ["zeroloss.mutants.process", mutant.name], mutant.profile)


def _target(title: str, module: Sequence[str], profile: Profile) -> type[Reference]:
    python = [sys.executable, "-m", *module]
    if profile.name == "default":
        settings, within_s = Reference.env, Reference.recover_within
    else:
        settings, within_s = {**SHORT, **profile.settings}, RECOVER_WITHIN_S
    if profile.odd_clocks:
        inherited = os.environ.get("PYTHONPATH", "")
        settings = {**settings, "PYTHONPATH": os.pathsep.join(filter(None, [str(_CLOCK), inherited]))}
    members = {
        "__doc__": f"The reference under the profile {profile.name}, as {title}.",
        "name": title,
        "worker": (*python, *Reference.worker[3:]),
        "producer": (*python, *Reference.producer[3:]),
        "workers": profile.workers,
        "recover_within": within_s,
        "attempts": profile.attempts,
        "env": settings,
    }
    return type(title, (Reference,), members)
