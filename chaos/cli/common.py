"""Parts that the commands share: the app, exit statuses, directories of runs, and messages."""

import errno
import os
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from rich.console import Console

from ..history.masking import masked

RUNS_DIRECTORY = Path("zeroloss-runs")

EXIT_USAGE = 2
EXIT_HARNESS_ERROR = 70
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def _version() -> str:
    from ..run.preamble import own_version

    return own_version()


app = App(
    name="zeroloss",
    help="Kill a task queue's workers in the middle of their tasks, and report every lost task.\n\n"
    "Exit status: 0 PASS or EXCUSED, 1 VIOLATION, 2 bad usage, 3 LIVENESS, DUPLICATES, LEAK or SLO, 4 INCONCLUSIVE, "
    "70 harness error, 130 interrupted.",
    help_format="plaintext",
    version=_version,
    version_flags=["--version"],
)


Plugins = Annotated[tuple[Path, ...], Parameter(negative="")]
"""`--plugin FILE`, any number of times."""


class UsageError(Exception):
    """One sentence for the user; exit status 2."""


def plugin_words(files: Iterable[Path]) -> list[str]:
    """Return the options by which another `zeroloss` loads the same plug-ins."""
    return [word for file in files for word in ("--plugin", str(file))]


def choose_server(redis: str | None) -> str:
    """Return the server for the plan. `auto` is resolved here, so that a replay uses the same kind of server."""
    from ..system.servers import engine_answers

    if redis is None or redis == "auto":
        return "container" if engine_answers() else "embedded"
    return redis


def with_server(plan: Any, redis: str | None) -> Any:
    """Return the plan with its server's whole URL, from --redis, or from REDIS_URL if plan.json masks the password.

    Raises UsageError: neither names one, or the plan's server has no URL.
    """
    from msgspec.structs import replace

    from ..history.masking import MASK
    from ..system.servers import URL_SCHEMES

    if not plan.server.startswith(URL_SCHEMES):
        if redis is not None:
            raise UsageError(f"--redis needs a plan whose server has a URL; this plan's server is {plan.server}.")
        return plan
    url = redis or (os.environ.get("REDIS_URL") if MASK in plan.server else plan.server)
    if not url:
        raise UsageError(
            f"The plan stores its server's URL without the password, {plan.server}: "
            "give the whole URL with --redis or in REDIS_URL."
        )
    if not url.startswith(URL_SCHEMES):
        raise UsageError(f"--redis or REDIS_URL must be a URL, redis://HOST:PORT/0, not {url!r}.")
    return replace(plan, server=url)


def refuse_links_out(directory: Path) -> None:
    """Raise UsageError if a file of the run is a symbolic link out of its directory: the run may be untrusted."""
    inside = directory.resolve()
    for path in (*directory.glob("*"), *directory.glob("events/*")):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise UsageError(f"{path} is a symbolic link that leads out of {directory}; such links are not followed.")


def is_taken(out: Path) -> bool:
    """Return whether the path exists and is not an empty directory. Raises OSError: it can't be read."""
    return out.exists() and not (out.is_dir() and not any(out.iterdir()))


def new_directory(out: Path | None, name: str) -> Path:
    """Make and return `--out`, or a directory named by the time. Raises UsageError: it is taken, or can't be made."""
    if out is not None:
        try:
            taken = is_taken(out)
        except OSError as error:
            raise UsageError(told(error)) from None
        if taken:
            raise UsageError(f"--out {out} exists and is not an empty directory: empty it, or name another.")
        directory = out
    else:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        directory = RUNS_DIRECTORY / f"{stamp}-{name}"
        number = 1
        while directory.exists():
            number += 1
            directory = RUNS_DIRECTORY / f"{stamp}-{name}-{number}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory} can't be made: {_reason(error)}; name another directory with --out.") from None
    return directory


def say(line: str) -> None:
    """Print a plain line."""
    Console().print(masked(line), highlight=False, markup=False, soft_wrap=True)


def say_result(console: Console, result: Any, reports: Mapping[str, Path]) -> None:
    """Print the verdict and the reasons for it."""
    from ..report import console_summary

    console.print(console_summary(result, reports.get("report.html")), soft_wrap=True)


def say_failure(failure: BaseException, directory: Path) -> int:
    """Report why a run failed, and return the exit status. The traceback of an unexpected error goes to a file."""
    import traceback

    from ..run.run import HarnessError
    from ..system.processes import CannotStart
    from ..system.room import told_full
    from ..system.servers import ServerUnavailable
    from ..system.submitter import AgentDied
    from ..target import TargetError

    if isinstance(failure, TargetError | CannotStart | ServerUnavailable):
        say_error(str(failure))
        return EXIT_USAGE
    if isinstance(failure, OSError) and failure.errno == errno.ENOSPC:
        say_error(told_full(directory))
    elif not isinstance(failure, HarnessError | AgentDied):
        kept = ""
        with suppress(OSError):  # the failure may be that nothing can be written
            (directory / "error.txt").write_text(masked("".join(traceback.format_exception(failure))))
            kept = "; the traceback is in error.txt"
        say_error(f"The harness failed: {type(failure).__name__}: {failure}{kept}.")
    else:
        say_error(str(failure))
    print(f"The results so far are in {directory}.", file=sys.stderr)
    return EXIT_HARNESS_ERROR


def told(error: OSError) -> str:
    """Return a sentence about an error: the path and the reason."""
    from ..system.room import told_full

    reason = _reason(error)
    place = error.filename2 or error.filename  # filename2: the final name of a temporary file
    if error.errno == errno.ENOSPC:
        return told_full(place or "the output")
    return f"{place}: {reason}." if place else f"The operating system reported: {reason}."


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def say_error(sentence: str) -> None:
    """Print a sentence on standard error."""
    print(f"zeroloss: {masked(sentence)}", file=sys.stderr)
