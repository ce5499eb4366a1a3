"""`zeroloss prove`: enumeration, seeded runs, mutants, and then the certificate, if the evidence allows it.

Each part is a harness process of its own, the command that a user would type, so its results can be inspected alone.
"""

import itertools
import random
import shlex
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from threading import Event

import msgspec
from jinja2 import Environment, PackageLoader

from ..checker.verdicts import AGAINST, Result
from ..enumerate.table import Report
from ..mutants.mutant import load_mutants
from ..plan.fitting import ALONE
from ..system.interruption import interruptible
from ..target import load_target
from .certificate import Certificate, certify
from .circumstances import circumstances_of
from .mutation import Mutation
from .recall import shipped_recall
from .subharness import run_harness

QUICK_MUTANTS = (
    "plain-brpop,ack-before-the-handler,recovery-keeps-the-attempt,payload-by-cjson,dead-letter-without-the-push"
)


WHOLE = (2_000, 50)
"""Tasks and kills of a `zeroloss run` without options."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The extent of a proof. `mutants`: names, or None for all; `mutant_runs`: number of runs of each."""

    runs: int
    sizes: Sequence[tuple[int, int]]
    """Tasks and kills of the first run, the second and so on; the last pair applies to all further runs."""
    pairs: bool
    mutants: str | None
    mutant_runs: int
    sample: int | None = None
    """Number of mutants, drawn by the seed; None: all that are named."""
    hours: float | None = None
    """Time after which no more runs begin; None: no limit."""


EFFORTS = {
    "quick": Effort(runs=2, sizes=[WHOLE, (400, 10)], pairs=False, mutants=QUICK_MUTANTS, mutant_runs=1),
    "default": Effort(runs=5, sizes=[WHOLE], pairs=False, mutants=None, mutant_runs=1, sample=10),
    "thorough": Effort(runs=20, sizes=[WHOLE], pairs=True, mutants=None, mutant_runs=3),
}


AT_ONCE = 2
"""Number of seeded runs at a time; the mutants run beside the last of them. All spend most of their time waiting."""
ENUMERATE, MUTANTS = "enumerate", "mutants"
UNLIMITED = 1_000_000
"""Number of runs if only the hours limit them."""


ABOUT_NAME = "proof.json"
CONTINUED = {"enumeration": "cases.jsonl", MUTANTS: "trials.jsonl"}
"""Part that a resumed proof continues -> the file to continue from. The other parts start over."""


class About(msgspec.Struct, frozen=True):
    """The settings that must not change when a proof is resumed. Runs and hours may change."""

    target: str
    server: str
    seed: int
    plugins: list[str]
    source: str
    """Digest and commit of the target's file."""
    mutants: str


class PartFailed(Exception):
    """A part left no result, or the proof can't be continued; the text is one sentence."""


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
    """Run the parts, and write certificate.json and certificate.html. Stop at the first conclusive failure.

    An interrupted proof in the directory is continued: its completed parts are not repeated.
    `plugins`: the command-line options that load plug-ins, for the runs and the mutants.

    Raises:
        PartFailed: a part left no result, or the directory is of another proof.
    """
    circumstances = circumstances_of(target, effort_name(effort))
    _keep(directory / ABOUT_NAME, About(target, server, seed, list(plugins), circumstances.source, _mutants_of(effort)))
    commands: list[str] = []
    stopping = Event()

    def part(name: str, result: str, *words: str) -> Callable[[], bytes]:
        words = words if name == "enumeration" else (*words, *plugins)
        command = ["zeroloss", *words]
        commands.append(shlex.join(command))
        place = directory / name
        if (place / result).exists():
            return (place / result).read_bytes
        say(f"{shlex.join(command)}   (its output: {place}.log)")
        if name in CONTINUED and (place / CONTINUED[name]).exists():
            where = ["--resume", str(place)]
        else:
            shutil.rmtree(place, ignore_errors=True)  # left by an interrupted proof
            where = ["--out", str(place)]
        return partial(_run_part, [*words, *where], directory / f"{name}.log", place / result, stopping)

    pairs = ["--pairs"] if effort.pairs else []
    report = msgspec.json.decode(
        part("enumeration", "enumeration.json", ENUMERATE, "--target", target, "--redis", server, *pairs)(), type=Report
    )
    say(f"{report.verdict}: {report.reached} of {report.planned} crash points were reached.")
    results: list[Result] = []
    mutation = Mutation(controls=[], mutants=[])
    stopped = "the enumeration" if report.verdict in AGAINST else ""

    def work() -> Iterator[tuple[str, Callable[[], bytes]]]:
        if stopped:
            return
        variants, begun_s = variants_at(target, server), time.monotonic()
        for number in range(max(effort.runs, 1)):
            if number and effort.hours and time.monotonic() - begun_s >= 3600 * effort.hours:
                break
            step, name = run_step(effort, number, seed + number, variants), f"run-{seed + number}"
            yield name, part(name, "result.json", *aimed(step, target, server))
        yield MUTANTS, part(MUTANTS, "mutants.json", *_mutants(effort, seed, server))

    with closing(_in_turn(work(), stopping)) as ended:
        for name, text in ended:
            if name == MUTANTS:
                mutation = msgspec.json.decode(text, type=Mutation)
                caught = len(mutation.mutants) - len(mutation.survivors)
                say(f"{caught} of {len(mutation.mutants)} mutants were caught.")
                continue
            results.append(msgspec.json.decode(text, type=Result))
            say(f"{results[-1].verdict}: {results[-1].because}")
            if results[-1].verdict in AGAINST:
                stopped = f"the run with seed {results[-1].seed}"
                break
    results.sort(key=attrgetter("seed"))
    certificate = certify(
        report,
        results,
        mutation,
        commands,
        mutants_known=len(load_mutants()),
        circumstances=circumstances,
        stopped=stopped,
        recall=shipped_recall(),
    )
    write(certificate, directory)
    return certificate


def _in_turn(work: Iterator[tuple[str, Callable[[], bytes]]], stopping: Event) -> Generator[tuple[str, bytes]]:
    """Carry out named pieces of work, AT_ONCE at a time, and yield each name with its result when it ends.

    A piece is taken from `work` when there is room for it. Closing the generator sets `stopping`, which ends the rest.
    """
    with interruptible(), ThreadPoolExecutor(AT_ONCE) as pool:
        under_way: dict[Future[bytes], str] = {}
        try:
            while True:
                under_way |= {pool.submit(one): name for name, one in itertools.islice(work, AT_ONCE - len(under_way))}
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    yield under_way.pop(future), future.result()
        except BaseException:
            stopping.set()
            raise


def _keep(path: Path, about: About) -> None:
    """Store the settings, or compare them with the stored ones. Raises PartFailed: they belong to another proof."""
    if not path.exists():
        path.write_bytes(msgspec.json.encode(about))
        return
    for name, before in msgspec.structs.asdict(msgspec.json.decode(path.read_bytes(), type=About)).items():
        if before != (now := getattr(about, name)):
            raise PartFailed(
                f"The proof in {path.parent} can't be continued: its {name} was {before} and is {now} now. "
                "Give the same options, or start a new proof."
            )


def _mutants_of(effort: Effort) -> str:
    return f"{effort.mutants or effort.sample or 'all'}, {effort.mutant_runs} runs each"


def run_step(effort: Effort, number: int, seed: int, variants: Sequence[str]) -> str:
    """Return a seeded run, numbered from 0, without target and server, and with `@VARIANT` at its end, if any.

    Run 0 is of the target itself; then the variants and the target take turns.
    """
    tasks, kills = effort.sizes[min(number, len(effort.sizes) - 1)]
    variant = ["", *(f" @{name}" for name in variants)][number % (1 + len(variants))]
    return f"run --seed {seed} --tasks {tasks} --kills {kills}{variant}"


def variants_at(target: str, server: str) -> list[str]:
    """Return the target's variants that can be run if this server is requested."""
    names = load_target(target).variants
    return [name for name in names if server in ALONE or load_target(f"{target}@{name}").server in (None, server)]


def aimed(step: str, target: str, server: str) -> list[str]:
    """Return a step's arguments for this target. A variant that needs another kind of server gets that server."""
    words = step.split()
    variant = words.pop() if words[-1].startswith("@") else ""
    needed = load_target(f"{target}{variant}").server if variant else None
    return [*words, "--target", f"{target}{variant}", "--redis", needed or server]


def effort_name(effort: Effort) -> str:
    """Return an effort's name and its changed limits: `default, 300 runs at most, 8 h at most`."""
    for name, known in EFFORTS.items():
        if replace(effort, runs=known.runs, hours=known.hours) == known:
            changed = [f"{effort.runs} runs at most"] if effort.runs not in (known.runs, UNLIMITED) else []
            changed += [f"{effort.hours:g} h at most"] if effort.hours else []
            return ", ".join([name, *changed])
    return "its own"


def drawn(effort: Effort, seed: int) -> str | None:
    """Return the names of the mutants to run, separated by commas; None: all."""
    if effort.mutants or effort.sample is None:
        return effort.mutants
    draw = random.Random(f"mutants:{seed}")
    piles: dict[str, list[str]] = {}
    known = [mutant for mutant in load_mutants().values() if not mutant.blind_spot]
    for mutant in draw.sample(known, len(known)):
        piles.setdefault(mutant.profile.name, []).append(mutant.name)
    # One of each profile before a second of any, as each profile finds defects of its own kind.
    in_turn = [name for names in itertools.zip_longest(*piles.values()) for name in names if name]
    return ",".join(sorted(in_turn[: effort.sample]))


def _mutants(effort: Effort, seed: int, server: str) -> list[str]:
    names = drawn(effort, seed)
    only = ["--only", names] if names else []
    return [MUTANTS, "--redis", server, "--runs", str(effort.mutant_runs), "--seed", str(seed), *only]


def _run_part(words: Sequence[str], log: Path, result: Path, stopping: Event) -> bytes:
    with interruptible():
        process = run_harness(words, log_path=log, stopping=stopping)
    try:
        return result.read_bytes()
    except OSError:
        raise PartFailed(
            f"`zeroloss {words[0]}` left no result; its last output: {process.log_tail()[-500:]}"
        ) from None


def write(certificate: Certificate, directory: Path) -> None:
    """Write certificate.json and certificate.html."""
    (directory / "certificate.json").write_bytes(msgspec.json.format(msgspec.json.encode(certificate)) + b"\n")
    environment = Environment(loader=PackageLoader("zeroloss", "campaigns"), autoescape=True)
    page = environment.get_template("certificate.html.j2").render(c=certificate)
    (directory / "certificate.html").write_text(page)
