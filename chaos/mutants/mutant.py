"""`Mutant`: the reference with one defect, and what must notice it."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from ..plugins import Registry, load_inherited
from .profiles import PROFILES, Profile

PROTOCOL = ("claiming", "recovering", "failing", "producing")
"""The files with those that an order of the protocol's steps shows: each is found by a schedule, too."""
ON_A_CLUSTER = ("clusters",)
"""The files with those that no run on one server shows, and no recall counts."""
FAMILIES = (
    *PROTOCOL,
    *ON_A_CLUSTER,
    *("answers", "attempts", "batches", "connections", "dead_letters", "durations"),
    *("handlers", "idempotency", "memory", "payloads", "schedules", "stopping"),
)
"""The files that hold them; each registers its own."""
UNEXPLAINED = "UNEXPLAINED"
"""The category of a duplicate that no fault explains."""
LEAK = "LEAK"
"""The category of what a worker or the server holds, if it grows with the disturbances."""
OVERTAKEN = "OVERTAKEN"
"""The category of a task that, without any fault, came long after later ones.

All others are the names of outcomes and, in capitals, of the promises that a target may state, such as BACKOFF.
"""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """`apply` puts the defect into the process that calls it."""

    name: str
    defect: str
    """One sentence."""
    expects: tuple[str, ...]
    """The categories under which it must be caught; any of them will do."""
    breaks: str
    """The number of the invariant."""
    profile: Profile
    apply: Callable[[], None]
    blind_spot: str = ""
    """Why no run shows it: a sentence. It has no categories then, and counts in the recall only."""

    @property
    def family(self) -> str:
        """The file that holds it."""
        return self.apply.__module__.rpartition(".")[2]

    @property
    def kind(self) -> str:
        """The same, in words."""
        return self.family.replace("_", " ")


MUTANTS: Registry[Mutant] = Registry("mutant", "zeroloss.mutants")
"""Name -> mutant: those of the families that were imported, and of the plug-ins that were loaded."""


def mutant(
    *, expects: str | tuple[str, ...] = (), breaks: str, profile: Profile, blind_spot: str = ""
) -> Callable[[Callable[[], None]], Mutant]:
    """Register a function that puts a defect in. Its name, with hyphens, names the mutant; its docstring the defect.

    `profile`: one of `PROFILES`, as the reference must pass under it first. Raises ValueError: it is another.
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
    """All of them, by name: those of plug-ins, too, that are installed or were loaded by the parent of this process.

    Raises PluginError.
    """
    for family in FAMILIES:
        importlib.import_module(f"{__package__}.{family}")
    load_inherited()
    return MUTANTS.with_entry_points()


def load_mutant(name: str, family: str) -> Mutant:
    """One of them. Only its own file is imported, as a run starts a hundred processes with it. Raises PluginError."""
    if family not in FAMILIES:
        return load_mutants()[name]
    importlib.import_module(f"{__package__}.{family}")
    return MUTANTS[name]
