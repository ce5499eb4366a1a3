"""A copy of this unit in another tree: made, brought up to date, and checked against what it was when it was made."""

import difflib
import hashlib
import importlib.metadata
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import __version__
from .queue.errors import QueueError

RECORD_NAME = "VENDORED.json"
LICENCE_NAME = "LICENSE"
DISTRIBUTION = "zeroloss"
NAMES_MAX = 5
"""That many changed files are named in one sentence."""

_HERE = Path(__file__).resolve().parent


class VendorError(QueueError):
    """The unit can't be copied there; the text is one sentence for the user."""


def vendor(destination: Path, package: str) -> Path:
    """Copy the unit to `destination/package`, or bring a copy that nobody has changed up to date; returns its folder.

    `package` may be dotted. Raises VendorError: the name is invalid, or that place holds something else.
    """
    folder = _folder(destination, package)
    if folder.resolve() == _HERE:
        raise VendorError(f"{folder} is what would be copied.")
    files = _unit()
    if folder.exists() and any(folder.iterdir()):
        found = _record(folder)
        if differences := _differences(folder, found.files):
            raise VendorError(f"The copy in {folder} was changed ({_listed(differences)}) and is left as it is.")
        for name in set(found.files) - set(files):
            (folder / name).unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    record = {
        "unit": DISTRIBUTION,
        "version": __version__,
        "digest": _digest(files),
        "files": {name: _sha256(path) for name, path in files.items()},
    }
    (folder / RECORD_NAME).write_text(json.dumps(record, indent=2) + "\n")
    return folder


def check(destination: Path, package: str) -> list[str]:
    """What is wrong with the copy, a sentence each: it was changed since, or this unit is another one. Empty: nothing.

    Raises VendorError: there is no copy.
    """
    folder = _folder(destination, package)
    found = _record(folder)
    wrong = []
    if differences := _differences(folder, found.files):
        wrong.append(f"The copy in {folder} was changed: {_listed(differences)}.")
    if found.digest != _digest(_unit()):
        wrong.append(f"The copy in {folder} is old: it was made of version {found.version}, this is {__version__}.")
    return wrong


def diff(destination: Path, package: str) -> Iterator[str]:
    """Yield what was changed in the copy, as the lines of a unified diff from this unit to it.

    Where the copy is old, what changed in this unit since is in it too. Raises VendorError: there is no copy.
    """
    folder = _folder(destination, package)
    files = _unit()
    for name in _differences(folder, _record(folder).files):
        before, after = (_lines(path) for path in (files.get(name), folder / name))
        yield from difflib.unified_diff(before, after, f"{DISTRIBUTION}/{name}", str(folder / name))


def _lines(path: Path | None) -> list[str]:
    return path.read_text().splitlines(keepends=True) if path and path.is_file() else []


def _folder(destination: Path, package: str) -> Path:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", package):
        raise VendorError(f"--package must be a name that can be imported, not {package!r}.")
    return destination.joinpath(*package.split("."))


def _unit() -> dict[str, Path]:
    """Name in the copy -> file. The code, what it serves, and the licence."""
    return dict(sorted((_files(_HERE) | {LICENCE_NAME: _licence()}).items()))


def _files(folder: Path) -> dict[str, Path]:
    """Path within the folder -> file; without bytecode and the record."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if name != RECORD_NAME and "__pycache__" not in path.parts}


def _licence() -> Path:
    """A copy has it beside the code, a checkout above, an installation among its metadata."""
    for path in (_HERE / LICENCE_NAME, _HERE.parent / LICENCE_NAME):
        if path.is_file():
            return path
    try:
        files = importlib.metadata.files(DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == LICENCE_NAME:
            return Path(str(file.locate()))
    raise VendorError("The licence, which a copy must contain, is not beside this unit.")


@dataclass(frozen=True, kw_only=True)
class _Record:
    version: str
    digest: str
    files: dict[str, str]
    """Name -> SHA-256."""


def _record(folder: Path) -> _Record:
    try:
        found = json.loads((folder / RECORD_NAME).read_text())
        return _Record(version=str(found["version"]), digest=str(found["digest"]), files=dict(found["files"]))
    except FileNotFoundError:
        raise VendorError(f"{folder} holds no {RECORD_NAME}: it is not a copy of this unit.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VendorError(f"{folder / RECORD_NAME} can't be read: {type(error).__name__}: {error}.") from None


def _differences(folder: Path, recorded: dict[str, str]) -> list[str]:
    """Files that are missing, other than they were, or foreign; bytecode is ignored."""
    present = {name: _sha256(path) for name, path in _files(folder).items()}
    return sorted(name for name in present.keys() | recorded.keys() if present.get(name) != recorded.get(name))


def _digest(files: dict[str, Path]) -> str:
    """Of names and contents together."""
    whole = "".join(f"{_sha256(path)}  {name}\n" for name, path in sorted(files.items()))
    return hashlib.sha256(whole.encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more
