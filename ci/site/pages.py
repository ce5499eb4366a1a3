"""Write the pages of the reference that are made from the code: `python ci/site/pages.py`.

With `--check` it writes nothing, and exits with 1 if one is out of date.
"""

import argparse
import dataclasses
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
from zeroloss.campaigns.certificate import Certificate
from zeroloss.checker.situations import SITUATIONS, STATES
from zeroloss.cli import app
from zeroloss.faults import load_faults
from zeroloss.faults.behaviours import BEHAVIOURS
from zeroloss.reference.__main__ import _parser

ROOT = Path(__file__).parents[2]
CERTIFICATE = "certificate"
SINCE = "\n## Since then\n"
MADE = "This page is made from the code by `python ci/site/pages.py`; a test keeps it current.\n"


def commands() -> str:
    """Each command of `zeroloss` and of `zeroloss queue` with its options, as `--help` shows them."""
    harness = app.generate_docs(output_format="markdown", usage_name="zeroloss")
    harness = re.sub(r"## Table of Contents\n.*?(?=\*\*Commands)", "", harness, flags=re.DOTALL)
    harness = re.sub(r"## zeroloss queue\n.*?(?=## zeroloss run)", "", harness, flags=re.DOTALL)
    head, _, rest = harness.partition("\n\n")
    parser = _parser("zeroloss queue")
    (subparsers,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    listed = [choice.dest for choice in subparsers._choices_actions]
    parts = ["# Commands", MADE, rest.rstrip() + "\n", "## zeroloss queue", f"{parser.description} {parser.epilog}\n"]
    shared = _options(subparsers.choices["pause"])
    parts += ["Each command but `vendor` takes these:", "\n".join(shared)]
    parts += [text for name in listed for text in _queue_command(name, subparsers.choices[name], shared)]
    assert head == "# zeroloss"
    return _joined(parts)


def _queue_command(name: str, parser: argparse.ArgumentParser, shared: Sequence[str]) -> Iterable[str]:
    yield f"### zeroloss queue {name}"
    yield f"{str(parser.description)[0].upper()}{str(parser.description)[1:]}."
    yield "\n".join(line for line in _options(parser) if line not in shared)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    shown = []
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        value = action.metavar or (f"{{{','.join(action.choices)}}}" if action.choices else action.dest.upper())
        words = action.option_strings[:1] + ([str(value)] if action.nargs != 0 else [])
        told = action.help or (f"(default: {action.default})" if action.default is not None else "")
        shown.append(f"* `{' '.join(words)}`" + (f": {told}" if told else ""))
    return shown


def faults() -> str:
    """Each fault with its options, the situations that a run can be asked to meet, and how tasks misbehave."""
    rows = []
    for fault in load_faults():
        options = "".join(f" `{field.name}={field.default}`" for field in dataclasses.fields(fault))
        rows.append((f"`{fault.name}`", fault.summary(), fault.aims_at, str(fault.count), options.strip()))
    situations = [(f"`{name}`", title) for name, title in SITUATIONS.items()]
    situations += [
        (f"`FAULT@{state}`", f"the fault hit while, for some task, {title}") for state, title in STATES.items()
    ]
    parts = [
        "# Faults",
        MADE,
        "`--faults NAME:OPTION=VALUE,...` combines them; each takes `count`, how often it is injected. What they"
        " need, and how some are made: [faults.md](faults.md).",
        _table(("fault", "what it does", "aims at", "count", "options"), rows),
        "## Situations",
        "`--demand NAME,...` makes a run INCONCLUSIVE unless it met these. `FAULT` is the name of a fault.",
        _table(("situation", "is met when"), situations),
        "## Tasks that misbehave",
        "A target states in `behaviours` which of these its task bodies know.",
        _table(("`behaviour`", "what happens"), [(f"`{name}`", title) for name, title in BEHAVIOURS.items()]),
    ]
    return _joined(parts)


def certificate() -> str:
    """Show the file of `zeroloss prove`. What is written by hand below `SINCE` stays."""
    page = ROOT / "docs" / CERTIFICATE / "README.md"
    _, title, since = page.read_text().partition(SINCE) if page.exists() else ("", "", "")
    found = msgspec.json.decode(page.with_name("certificate.json").read_bytes(), type=Certificate)
    assert found.issued and found.circumstances, "docs/ shows a certificate that was issued"
    _, _, commit = found.circumstances.source.rpartition("commit ")
    inconclusive = f" ({found.inconclusive_runs} more: INCONCLUSIVE)" if found.inconclusive_runs else ""
    figures = [
        ("made", f"{found.circumstances.date}, at commit `{commit}`"),
        ("on", found.circumstances.machine),
        ("crash points reached", f"{found.crash_points_reached} of {found.crash_points}"),
        ("seeded runs without a loss", f"{found.runs}{inconclusive}"),
        ("promised tasks judged in them", f"{found.tasks_judged:,}"),
        ("a run loses a task with a probability below", f"{found.loss_probability_below:.1%}, at 95 % confidence"),
        ("mutants caught", f"{found.mutants_caught} of {found.mutants}, drawn at random"),
    ]
    first, last = min(found.seeds), max(found.seeds)
    parts = [
        "# A certificate of the reference queue",
        "`zeroloss prove` has made [a page](certificate.html) and [a file](certificate.json). They name the servers,"
        " the seeds, the commands that repeat\neach part, and what is not covered. This page is made from the file by"
        " `python ci/site/pages.py`; a test keeps it current.",
        _table(("", ""), figures),
        f"The runs have the seeds {first} to {last}. They are of the queue and of its variants, in turn.",
        "What this evidence may have missed:",
        "\n".join(f"- {one}" for one in [*found.missed, *found.recall, *found.not_covered]),
        "It is about the commit in the table, under the workload and the faults of its runs. It is evidence, not a"
        " proof. Another one takes about an hour on two cores; `--resume proof` continues it:",
        f"```sh\npip install '.[asgi]'\nzeroloss prove --runs {len(found.seeds)} --redis embedded --out proof\n```",
        "The workflow [nightly.yml](../../.github/workflows/nightly.yml) makes one each night, with other seeds, and"
        " keeps it as an artifact.",
    ]
    return _joined(parts) + title + since


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": commands,
    "fault-list.md": faults,
    f"{CERTIFICATE}/README.md": certificate,
}


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    stale = [name for name, page in PAGES.items() if not _holds(ROOT / "docs" / name, page())]
    if "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(stale)}" if stale else 0)
    for name in stale:
        (ROOT / "docs" / name).write_text(PAGES[name]())
