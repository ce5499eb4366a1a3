"""A copy of this unit in another tree: made, brought up to date, and checked against what it was when it was made."""

import difflib
import hashlib
import importlib.metadata
import json
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import __version__
from .queue.errors import QueueError

RECORD_NAME = "VENDORED.json"
LICENCE_NAME = "LICENSE"
DISTRIBUTION = "zeroloss"
PARTS = {
    "failover": (),
    "http": (),
    "monitor": ("http", "stats"),
    "shards": ("stats",),
    "stats": (),
    "telemetry": (),
}
"""What may be left out, and which other parts each needs."""
NAMES_MAX = 5
"""That many changed files are named in one sentence."""

_HERE = Path(__file__).resolve().parent


class VendorError(QueueError):
    """The unit can't be copied there; the text is one sentence for the user."""


def read_parts(text: str) -> frozenset[str]:
    """The parts that `--with` names, and those that they need; `none` names no part.

    Raises VendorError: there is no such part.
    """
    named = [] if text == "none" else [name.strip() for name in text.split(",")]
    for name in named:
        if name not in PARTS:
            raise VendorError(f"--with: {name!r} is not one of the parts {', '.join(PARTS)}, nor none.")
    return frozenset(part for name in named for part in (name, *PARTS[name]))


def vendor(destination: Path, package: str, parts: Collection[str] | None = None) -> Path:
    """Copy the unit to `destination/package`, or bring a copy that nobody has changed up to date; returns its folder.

    `package` may be dotted. `parts`: those of `PARTS` that the copy has; None: those that it had, all in a new one.
    Raises VendorError: the name is invalid, or that place holds something else.
    """
    folder = _folder(destination, package)
    if folder.resolve() == _HERE:
        raise VendorError(f"{folder} is what would be copied.")
    found = _record(folder) if folder.exists() and any(folder.iterdir()) else None
    if parts is None:
        parts = found.parts if found else PARTS
    files = _unit(parts)
    if found:
        if differences := _differences(folder, found.files):
            raise VendorError(f"The copy in {folder} was changed ({_listed(differences)}) and is left as it is.")
        _remove(folder, set(found.files) - set(files))
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    record = {
        "unit": DISTRIBUTION,
        "version": __version__,
        "digest": _digest(files),
        "parts": sorted(parts),
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
    if found.digest != _digest(_unit(found.parts)):
        how = f"is old: it was made of version {found.version}, this is {__version__}"
        if found.version == __version__:
            how = f"is another one: both are of version {__version__}, with different files"
        wrong.append(f"The copy in {folder} {how}.")
    return wrong


def diff(destination: Path, package: str) -> Iterator[str]:
    """Yield what was changed in the copy, as the lines of a unified diff from this unit to it.

    Where the copy is old, what changed in this unit since is in it too. Raises VendorError: there is no copy.
    """
    folder = _folder(destination, package)
    found = _record(folder)
    files = _unit(found.parts)
    for name in _differences(folder, found.files):
        before, after = (_lines(path) for path in (files.get(name), folder / name))
        yield from difflib.unified_diff(before, after, f"{DISTRIBUTION}/{name}", str(folder / name))


def _remove(folder: Path, names: Collection[str]) -> None:
    """Delete files, and each folder in which only bytecode is left: an empty one would pass for a part."""
    for name in names:
        (folder / name).unlink()
    for parent in {folder / above for name in names for above in Path(name).parents if above.name}:
        if not _files(parent):
            shutil.rmtree(parent, ignore_errors=True)


def _lines(path: Path | None) -> list[str]:
    return path.read_text().splitlines(keepends=True) if path and path.is_file() else []


def _folder(destination: Path, package: str) -> Path:
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", package):
        raise VendorError(f"--package must be a name that can be imported, not {package!r}.")
    return destination.joinpath(*package.split("."))


def _unit(parts: Collection[str]) -> dict[str, Path]:
    """Name in the copy -> file. The code with these parts, what it serves, and the licence."""
    for part in parts:
        if not (_HERE / part).is_dir():
            raise VendorError(f"{_HERE} was made without {part}: vendor from the installed package.")
    left_out = PARTS.keys() - set(parts)
    files = {name: path for name, path in _files(_HERE).items() if name.partition("/")[0] not in left_out}
    return dict(sorted((files | {LICENCE_NAME: _licence()}).items()))


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
    parts: frozenset[str]
    """A copy of before there was a choice has all."""


def _record(folder: Path) -> _Record:
    try:
        found = json.loads((folder / RECORD_NAME).read_text())
        parts = frozenset(found.get("parts", PARTS))
        return _Record(
            version=str(found["version"]), digest=str(found["digest"]), files=dict(found["files"]), parts=parts
        )
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
