"""Copies of this unit in other trees: makes a copy, updates it, and checks it for changes since it was made."""

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
"""Optional parts, each with the other parts that it needs."""
NAMES_MAX = 5
"""Limit on the changed files that one sentence names."""

_HERE = Path(__file__).resolve().parent


class VendorError(QueueError):
    """The unit can't be copied there; the text is one sentence for the user."""


def read_parts(text: str) -> frozenset[str]:
    """Return the parts that `--with` names, and the parts that those need; `none` names no part.

    Raises VendorError: there is no such part.
    """
    named = [] if text == "none" else [name.strip() for name in text.split(",")]
    for name in named:
        if name not in PARTS:
            raise VendorError(f"--with: {name!r} is not a part; name some of {', '.join(PARTS)}, or none.")
    return frozenset(part for name in named for part in (name, *PARTS[name]))


def vendor(destination: Path, package: str, parts: Collection[str] | None = None) -> Path:
    """Copy the unit to `destination/package`, or update an unchanged copy there. Return the copy's folder.

    `package` may be dotted. `parts`: the parts of `PARTS` to copy; None: those of the copy there, or all in a new copy.
    Raises VendorError: the name is invalid, the copy was changed, or the folder holds something else.
    """
    folder = _folder(destination, package)
    if folder.resolve() == _HERE:
        raise VendorError(f"{folder} is the source of the copy; name another destination.")
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
    """Return a sentence for each problem of a copy: it was changed, or this unit is another one. Empty: no problem.

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
    """Yield the changes made to the copy, as the lines of a unified diff from this unit to the copy.

    If the copy is old, later changes of this unit show in these files, too. Raises VendorError: there is no copy.
    """
    folder = _folder(destination, package)
    found = _record(folder)
    files = _unit(found.parts)
    for name in _differences(folder, found.files):
        before, after = (_lines(path) for path in (files.get(name), folder / name))
        yield from difflib.unified_diff(before, after, f"{DISTRIBUTION}/{name}", str(folder / name))


def _remove(folder: Path, names: Collection[str]) -> None:
    """Delete files, and each folder in which only bytecode is left: an empty folder would look like a part."""
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
    """Map names in the copy to files: the code with these parts, the files that it serves, and the licence."""
    for part in parts:
        if not (_HERE / part).is_dir():
            raise VendorError(f"{_HERE} was made without {part}: vendor from the installed package.")
    left_out = PARTS.keys() - set(parts)
    files = {name: path for name, path in _files(_HERE).items() if name.partition("/")[0] not in left_out}
    return dict(sorted((files | {LICENCE_NAME: _licence()}).items()))


def _files(folder: Path) -> dict[str, Path]:
    """Map paths within the folder to files, without bytecode and the record."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in found.items() if name != RECORD_NAME and "__pycache__" not in path.parts}


def _licence() -> Path:
    """Find the licence: in a copy beside the code, in a checkout above it, in an installation in the metadata."""
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
    """A copy from before parts were optional has all."""


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
    """Return the files that are missing, changed or foreign; bytecode is ignored."""
    present = {name: _sha256(path) for name, path in _files(folder).items()}
    return sorted(name for name in present.keys() | recorded.keys() if present.get(name) != recorded.get(name))


def _digest(files: dict[str, Path]) -> str:
    """Return a digest of names and contents together."""
    whole = "".join(f"{_sha256(path)}  {name}\n" for name, path in sorted(files.items()))
    return hashlib.sha256(whole.encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return ", ".join(names[:NAMES_MAX]) + more
