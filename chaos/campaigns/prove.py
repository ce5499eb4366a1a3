"""`zeroloss prove`: enumeration, seeded runs, mutants, and then the certificate, if there is to be one.

Each part is a harness process of its own, the command that a user would type: what it found can be looked at by itself.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from jinja2 import Environment, PackageLoader

from ..checker.verdicts import Result
from ..enumerate.table import Report
from ..mutants.mutant import load_mutants
from ..system.interruption import interruptible
from .certificate import Certificate, certify
from .mutation import Mutation
from .subharness import run_harness

QUICK_MUTANTS = "plain-brpop,ack-before-the-handler,no-recovery,payload-by-cjson,bound-after-the-push"


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is done. `mutants`: names, or None for all; `mutant_runs`: how often each."""

    runs: int
    tasks: int
    kills: int
    pairs: bool
    mutants: str | None
    mutant_runs: int


EFFORTS = {
    "quick": Effort(runs=2, tasks=400, kills=10, pairs=False, mutants=QUICK_MUTANTS, mutant_runs=1),
    "default": Effort(runs=5, tasks=2_000, kills=50, pairs=False, mutants=None, mutant_runs=1),
    "thorough": Effort(runs=20, tasks=2_000, kills=50, pairs=True, mutants=None, mutant_runs=3),
}


class PartFailed(Exception):
    """A part came to nothing; the text is one sentence."""


def prove(
    effort: Effort,
    *,
    target: str,
    server: str,
    seed: int,
    directory: Path,
    say: Callable[[str], None],
    plugins: Sequence[str] = (),
) -> Certificate:
    """Run the parts one after the other, and write certificate.json and certificate.html.

    `plugins`: the words of the options that load them.

    Raises:
        PartFailed: a part left no result.
    """
    commands: list[str] = []

    def part(name: str, result: str, *words: str) -> bytes:
        words = (*words, *plugins)
        command = ["zeroloss", *words]
        commands.append(shlex.join(command))
        say(f"{shlex.join(command)}   (its output: {directory / name}.log)")
        return _run_part([*words, "--out", str(directory / name)], directory / f"{name}.log", directory / name / result)

    pairs = ["--pairs"] if effort.pairs else []
    report = msgspec.json.decode(
        part("enumeration", "enumeration.json", "enumerate", "--target", target, "--redis", server, *pairs), type=Report
    )
    say(f"{report.verdict}: {report.reached} of {report.planned} crash points were reached.")
    results = []
    for one_seed in range(seed, seed + effort.runs):
        words = ["run", "--target", target, "--seed", str(one_seed), "--redis", server]
        words += ["--tasks", str(effort.tasks), "--kills", str(effort.kills)]
        results.append(msgspec.json.decode(part(f"run-{one_seed}", "result.json", *words), type=Result))
        say(f"{results[-1].verdict}: {results[-1].because}")
    only = ["--only", effort.mutants] if effort.mutants else []
    words = ["mutants", "--redis", server, "--runs", str(effort.mutant_runs), "--seed", str(seed), *only]
    mutation = msgspec.json.decode(part("mutants", "mutants.json", *words), type=Mutation)
    say(f"{len(mutation.mutants) - len(mutation.survivors)} of {len(mutation.mutants)} mutants were caught.")
    certificate = certify(report, results, mutation, commands, mutants_known=len(load_mutants()))
    _write(certificate, directory)
    return certificate


def _run_part(words: Sequence[str], log: Path, result: Path) -> bytes:
    with interruptible():
        process = run_harness(words, log_path=log)
    try:
        return result.read_bytes()
    except OSError:
        raise PartFailed(f"`zeroloss {words[0]}` left no result; its last words: {process.log_tail()[-500:]}") from None


def _write(certificate: Certificate, directory: Path) -> None:
    (directory / "certificate.json").write_bytes(msgspec.json.format(msgspec.json.encode(certificate)) + b"\n")
    environment = Environment(loader=PackageLoader("zeroloss", "campaigns"), autoescape=True)
    page = environment.get_template("certificate.html.j2").render(c=certificate)
    (directory / "certificate.html").write_text(page)
