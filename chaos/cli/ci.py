"""`zeroloss-ci`: runs zeroloss in a pipeline of any kind. Its settings are variables:

ZEROLOSS_TARGET    the queue under test: path/to/file.py:Class, package.module:Class, or a shipped name (reference)
ZEROLOSS_PROFILE   quick: 200 tasks, 5 kills; default: 2,000 and 50; thorough: 10,000 and 200 (default)
ZEROLOSS_FAULTS    faults to inject: mix, or names that `zeroloss faults` lists (mix)
ZEROLOSS_BACKEND   auto, embedded, container, or the URL of an empty database (auto)
ZEROLOSS_SEED      seed of the plan, which repeats a run's plan; empty: a random one
ZEROLOSS_OUT       the run's directory, new or empty (zeroloss-report)

The directory holds result.json, junit.xml, history.jsonl, report.html and summary.md afterwards. On GitHub the summary
also appears on the job's page, and a run that did not pass adds an annotation. Exit status: as of `zeroloss run`.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

from . import execute
from . import main as ended
from .common import EXIT_USAGE, is_taken

PROFILES = {"quick": (200, 5), "default": (2_000, 50), "thorough": (10_000, 200)}
"""Name -> number of tasks, number of kills."""


def main() -> None:
    """The console script."""
    ended(_run)


def _run() -> int:
    from ..report.result import NAME, read
    from ..report.summary import annotation, markdown

    arguments = sys.argv[1:]
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    if arguments:
        sentence = (
            f"Unexpected argument {arguments[0]!r}: zeroloss-ci takes its settings from environment variables; "
            "`zeroloss-ci --help` lists them."
        )
        print(f"zeroloss-ci: {sentence}", file=sys.stderr)
        return EXIT_USAGE
    profile = _setting("PROFILE", "default")
    if profile not in PROFILES:
        known = "quick, default or thorough"
        print(f"zeroloss-ci: ZEROLOSS_PROFILE must be {known}, not {profile!r}.", file=sys.stderr)
        return EXIT_USAGE
    tasks, kills = PROFILES[profile]
    out = Path(_setting("OUT", "zeroloss-report"))
    with suppress(OSError):  # `run` reports the error
        if is_taken(out):
            sentence = f"ZEROLOSS_OUT {out} exists and is not an empty directory: delete it, or name another."
            print(f"zeroloss-ci: {sentence}", file=sys.stderr)
            return EXIT_USAGE
    words = ["--target", _setting("TARGET", "reference"), "--faults", _setting("FAULTS", "mix")]
    words += ["--tasks", str(tasks), "--kills", str(kills), "--redis", _setting("BACKEND", "auto"), "--out", str(out)]
    if seed := _setting("SEED", ""):
        words += ["--seed", seed]
    status = execute(["run", *words])
    if not (out / NAME).is_file():
        return status
    result = read(out)
    page = markdown(result, out) + "\n"
    (out / "summary.md").write_text(page)
    if job_page := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(job_page).open("a") as file:
            file.write(page)
    if os.environ.get("GITHUB_ACTIONS") and (line := annotation(result, out)):
        print(line)
    return status


def _setting(name: str, default: str) -> str:
    return os.environ.get(f"ZEROLOSS_{name}") or default


if __name__ == "__main__":
    main()
