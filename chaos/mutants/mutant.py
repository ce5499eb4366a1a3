"""`Mutant`: the reference with one defect, and the categories that must reveal it."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from ..plugins import Registry, load_inherited
from .profiles import PROFILES, Profile

PROTOCOL = ("claiming", "recovering", "failing", "producing")
"""Files whose defects show in some order of the protocol's steps: a schedule must find each of them, too."""
ON_A_CLUSTER = ("clusters",)
"""Files whose defects no run on a single server shows."""
FAMILIES = (
    *PROTOCOL,
    *ON_A_CLUSTER,
    *("answers", "attempts", "batches", "connections", "dead_letters", "durations"),
    *("handlers", "idempotency", "memory", "payloads", "schedules", "stopping"),
)
"""The files with mutants. Each file registers its own."""
UNEXPLAINED = "UNEXPLAINED"
"""The category of a duplicate that no fault explains."""
LEAK = "LEAK"
"""The category of a resource of a worker or the server that grows with the disturbances."""
OVERTAKEN = "OVERTAKEN"
"""The category of a task that ran long after later tasks, without any fault.

All other categories are names of outcomes or, in capitals, of promises that a target may state, such as BACKOFF.
"""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """`apply` plants the defect in the process that calls it."""

    name: str
    defect: str
    """One sentence."""
    expects: tuple[str, ...]
    """The categories under which it must be caught. Any one of them is enough."""
    breaks: str
    """The number of the invariant that it breaks."""
    profile: Profile
    apply: Callable[[], None]
    blind_spot: str = ""
    """Why no run shows the defect, in a sentence. Such a mutant has no categories, and counts in the recall only."""

    @property
    def family(self) -> str:
        """The file that holds it."""
        return self.apply.__module__.rpartition(".")[2]

    @property
    def kind(self) -> str:
        """The family's name, in words."""
        return self.family.replace("_", " ")


MUTANTS: Registry[Mutant] = Registry("mutant", "zeroloss.mutants")
"""Name -> mutant, of the imported families and the loaded plug-ins."""


def mutant(
    *, expects: str | tuple[str, ...] = (), breaks: str, profile: Profile, blind_spot: str = ""
) -> Callable[[Callable[[], None]], Mutant]:
    """Register a function that plants a defect. Its name, with hyphens, names the mutant; its docstring the defect.

    `profile`: one of `PROFILES`, since the reference must pass under it first. Raises ValueError: it is another.
    """
    if PROFILES.get(profile.name) is not profile:
        raise ValueError(f"the profile {profile.name!r} is not one of {', '.join(PROFILES)}")

    def register(apply: Callable[[], None]) -> Mutant:
        made = Mutant(
            name=apply.__name__.replace("_", "-"),
            defect=(apply.__doc__ or "").strip().partition("\n")[0],
            expects=(expects,) if isinstance(expects, str) else expects,
            breaks=breaks,
            profile=profile,
            apply=apply,
            blind_spot=blind_spot,
        )
        MUTANTS.add(made.name, made, apply.__module__)
        return made

    return register


def load_mutants() -> dict[str, Mutant]:
    """Return all mutants by name, including plug-ins that are installed or that the parent process loaded.

    Raises PluginError.
    """
    for family in FAMILIES:
        importlib.import_module(f"{__package__}.{family}")
    load_inherited()
    return MUTANTS.with_entry_points()


def load_mutant(name: str, family: str) -> Mutant:
    """Return one mutant. Only its own file is imported, as a run starts a hundred processes. Raises PluginError."""
    if family not in FAMILIES:
        return load_mutants()[name]
    importlib.import_module(f"{__package__}.{family}")
    return MUTANTS[name]
