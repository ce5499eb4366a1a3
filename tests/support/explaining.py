"""Check that a traced run names the cause of a mutant's loss: `python -m support.explaining [MUTANT...]`, five minutes.

Exit status 1: an expected phrase is missing. The sentences of each run are printed.
"""

import io
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from zeroloss.checker.verdicts import Result
from zeroloss.mutants.mutant import load_mutants
from zeroloss.mutants.target import spec_of
from zeroloss.run.progress import Progress
from zeroloss.run.run import run
from zeroloss.target import load_target

CAUSES = {
    "plain-brpop": ("claimed and not yet begun", "worker-sigkill", "the process was killed"),
    "ack-before-the-handler": ("interrupted in their bodies", "worker-sigkill", "the process was killed"),
    "retry-in-two-steps": ("while being retried", "net-reply-loss", "HDEL by worker-", "no later command put it back"),
    "large-tasks-dropped": ("at enqueue", "payload above 64 KiB", "No command carried it"),
    "drain-drops": ("claimed and not yet begun", "worker-sigterm", "by worker-"),
}
"""Mutant -> phrases that its cause and its stories must contain."""
SEED = 3


def explained(name: str, directory: Path) -> Result:
    """Return the result of a traced run of the mutant under its profile."""
    spec = spec_of(name)
    plan = load_mutants()[name].profile.plan(seed=SEED, target=spec, server="embedded")
    progress = Progress(Console(file=io.StringIO()))
    outcome = run(plan, load_target(spec), directory=directory, command=["zeroloss"], progress=progress, trace=True)
    return outcome.result


def main(names: list[str]) -> int:
    missing = 0
    for name in names or CAUSES:
        with tempfile.TemporaryDirectory() as directory:
            result = explained(name, Path(directory) / "run")
        said = [*result.cause, *(sentence for story in result.stories for sentence in story.sentences)]
        lacks = [words for words in CAUSES[name] if not any(words in sentence for sentence in said)]
        print(f"{name}: {'lacks ' + repr(lacks) if lacks else 'explained'}", *said[:12], sep="\n  ", flush=True)
        missing += bool(lacks)
    return min(1, missing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
