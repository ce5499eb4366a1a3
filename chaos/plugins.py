"""Plug-ins: files of `--plugin FILE`, and entry points of installed packages, that register faults and mutants.

A plug-in is loaded by importing it: its faults and mutants register themselves where they are defined. Plug-ins are
loaded only to make or carry out a plan: a stored history is judged without them.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

FILES_VARIABLE = "ZEROLOSS_PLUGINS"
"""Environment variable with the files that this process has loaded, for its child processes."""

Item = TypeVar("Item")

_registries: "list[Registry[Any]]" = []
_loaded: set[Path] = set()
_origin: list[str] = []
"""The plug-ins that are being loaded, the innermost last."""


class PluginError(Exception):
    """A plug-in can't be loaded; the text is one sentence for the user."""


class Registry(dict[str, Item]):
    """Name -> registered item. `group`: the entry point group that adds to the registry."""

    def __init__(self, kind: str, group: str) -> None:
        super().__init__()
        self._kind, self._group = kind, group
        self._complete = False
        self.origins: dict[str, str] = {}
        """Name -> the file, or the distribution and version, that registered it. Shipped items are left out."""
        _registries.append(self)

    def add(self, name: str, item: Item, module: str) -> None:
        """Register an item, defined in `module`. Raises ValueError if the name is taken."""
        if name in self:
            raise ValueError(f"there is a {self._kind} named {name!r} already")
        self[name] = item
        if _origin and not module.startswith(f"{__package__}."):
            self.origins[name] = _origin[-1]

    def with_entry_points(self) -> "Registry[Item]":
        """Return this registry, after loading the entry points of all installed packages. Raises PluginError."""
        if not self._complete:
            for entry in importlib.metadata.entry_points(group=self._group):
                made_by = f"{entry.dist.name}=={entry.dist.version}" if entry.dist else entry.value
                with _loading(made_by, f"The entry point {entry.name} of {made_by} in {self._group}"):
                    entry.load()
            self._complete = True
        return self


def load_files(files: Iterable[Path | str]) -> None:
    """Import each file, once. Raises PluginError if a file is missing, fails or registers nothing."""
    for file in files:
        path = Path(file)
        if path.suffix != ".py" or not path.is_file():
            raise PluginError(f"--plugin {file}: there is no such Python file.")
        if path.resolve() in _loaded:
            continue
        before = _registered()
        with _loading(str(file), f"--plugin {file}"):
            _import(path.resolve())
        if _registered() == before:
            raise PluginError(f"--plugin {file} registers no fault and no mutant: decorate one with @fault or @mutant.")
        _loaded.add(path.resolve())
    os.environ[FILES_VARIABLE] = os.pathsep.join(map(str, sorted(_loaded)))


def load_inherited() -> None:
    """Load the files that the parent process has loaded. Raises PluginError."""
    load_files(filter(None, os.environ.get(FILES_VARIABLE, "").split(os.pathsep)))


def load_named(names: Iterable[str]) -> None:
    """Load the files that a plan names, and check that its distributions are installed. Raises PluginError."""
    for name in names:
        if name.endswith(".py"):
            load_files([name])
            continue
        distribution = name.partition("==")[0]
        try:
            importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            raise PluginError(f"The plan needs the plug-in {name}, which is not installed.") from None


def _registered() -> int:
    return sum(len(registry.origins) for registry in _registries)


@contextmanager
def _loading(origin: str, what: str) -> Iterator[None]:
    _origin.append(origin)
    try:
        yield
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what} can't be loaded: {type(error).__name__}: {error}.") from error
    finally:
        _origin.pop()


def _import(path: Path) -> None:
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # A unique name, so that the file replaces no module of the same name.
    name = f"zeroloss_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    description = importlib.util.spec_from_file_location(name, path)
    assert description is not None
    assert description.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(description)
    try:
        description.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
