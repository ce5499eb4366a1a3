"""`Mutant`: the reference with one defect, and what must notice it."""

from collections.abc import Callable
from dataclasses import dataclass

from .profiles import Profile

UNEXPLAINED = "UNEXPLAINED"
"""The category of a duplicate that no fault explains. The other categories are the names of fates."""


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """`apply` puts the defect into the process that calls it."""

    name: str
    defect: str
    """One sentence."""
    expects: tuple[str, ...]
    """The categories under which it has to be caught; any of them will do."""
    breaks: str
    """The number of the invariant."""
    profile: Profile
    apply: Callable[[], None]


MUTANTS: dict[str, Mutant] = {}


def mutant(*, expects: str | tuple[str, ...], breaks: str, profile: Profile) -> Callable[[Callable[[], None]], Mutant]:
    """Register a function that puts a defect in. Its name, with hyphens, names the mutant; its docstring the defect."""

    def register(apply: Callable[[], None]) -> Mutant:
        made = Mutant(
            name=apply.__name__.replace("_", "-"),
            defect=(apply.__doc__ or "").strip().partition("\n")[0],
            expects=(expects,) if isinstance(expects, str) else expects,
            breaks=breaks,
            profile=profile,
            apply=apply,
        )
        MUTANTS[made.name] = made
        return made

    return register


def load_mutants() -> dict[str, Mutant]:
    """All of them, by name."""
    from . import claiming, failing, producing, recovering  # noqa: F401 - each registers its own

    return MUTANTS
