"""Other languages: the ledger that each copies, and the stand-in that `zeroloss init` writes for it."""

import re
from dataclasses import dataclass
from pathlib import Path

STANDIN = Path("tests/zeroloss_standin")
_LEDGERS = Path(__file__).resolve().parents[1] / "ledgers"
_STANDINS = Path(__file__).resolve().parent / "standins"
_PACKAGE = re.compile(r"^package +(\w+)", re.MULTILINE | re.ASCII)


class LedgerError(Exception):
    """Nothing was written; the text is one sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class Language:
    """What is written for one language. Commands are those of a target, as Python; HERE is the stand-in's folder."""

    ledger: str
    standin: str
    worker: str
    client: str = ""
    """Empty: its tasks are submitted by Python."""
    build: str = ""
    call: str
    """What belongs around the work of a task."""
    needs: str = ""
    """The program that a machine may lack, and Debian's package that has it."""


LANGUAGES = {
    "node": Language(
        ledger="ledger.mjs",
        standin="queue.mjs",
        worker='("node", str(HERE / "queue.mjs"), "worker")',
        client='("node", str(HERE / "queue.mjs"), "client")',
        call="await effect(id, { payload: text }, async () => { ... })",
    ),
    "ruby": Language(
        ledger="ledger.rb",
        standin="queue.rb",
        worker='("ruby", str(HERE / "queue.rb"), "worker")',
        client='("ruby", str(HERE / "queue.rb"), "client")',
        call="ZeroLoss.effect(id, payload: text) { ... }",
    ),
    "go": Language(
        ledger="ledger.go",
        standin="main.go",
        build='("go", "build", "-o", "zeroloss-standin", str(HERE / "main.go"), str(HERE / "ledger.go"))',
        worker='("zeroloss-standin", "worker")',
        client='("zeroloss-standin", "client")',
        call="Effect(id, text, 0, func() error { ... })",
    ),
    "shell": Language(
        ledger="ledger.sh",
        standin="queue.sh",
        worker='("sh", str(HERE / "queue.sh"))',
        call='zeroloss_effect "$id" "$text" command ...',
        needs="redis-tools",
    ),
}
"""Name on the command line -> what is written for it."""


def vendor_ledger(language: str, destination: Path) -> Path:
    """Copy a language's ledger to a file, or into a folder; returns where it is. The same again changes nothing.

    A package of Go gets the name of those that lie there, or of the folder. Raises LedgerError.
    """
    name = LANGUAGES[language].ledger
    path = destination if destination.suffix == Path(name).suffix else destination / name
    text = (_LEDGERS / name).read_text()
    if language == "go":
        text = _PACKAGE.sub(f"package {_package(path)}", text, count=1)
    if path.exists() and path.read_text() != text:
        raise LedgerError(
            f"{path} exists and differs from the file of this zeroloss: remove it, so that it can be replaced."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise LedgerError(f"{path} can't be written: {error.strerror}.") from None
    return path


def standin(language: str) -> dict[Path, str]:
    """The files of its stand-in: path in a repository -> text."""
    chosen = LANGUAGES[language]
    return {
        STANDIN / chosen.ledger: (_LEDGERS / chosen.ledger).read_text(),
        STANDIN / chosen.standin: (_STANDINS / chosen.standin).read_text(),
    }


def _package(path: Path) -> str:
    others = (one for one in sorted(path.parent.glob("*.go")) if one != path and not one.name.endswith("_test.go"))
    for other in others:
        if found := _PACKAGE.search(other.read_text()):
            return found[1]
    return re.sub(r"\W", "", path.resolve().parent.name.lower(), flags=re.ASCII).lstrip("0123456789_") or "main"
