"""Distributions built from this repository: all state the same version."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.places import ROOT

VERSION = "9.8.7"
BUILD = "import sys; from setuptools import build_meta; print(getattr(build_meta, sys.argv[1])(sys.argv[2]))"
KEPT_OUT = (".git", ".venv", ".tox", "build", "zeroloss-runs", "mutants", "*.egg-info", "__pycache__", ".*_cache")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of this repository with another `__version__` of the queue."""
    folder = tmp_path / "source"
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*KEPT_OUT))
    stated = folder / "reference" / "__init__.py"
    stated.write_text(re.sub(r'(?m)^__version__ = ".*"$', f'__version__ = "{VERSION}"', stated.read_text()))
    # A build has no dependencies installed: importing the queue must fail.
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["redis"] = None\n')
    return folder


def build(hook: str, source: Path) -> Path:
    """Run one hook of the build backend, and return the file it writes."""
    out = source.parent / "dist"
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-c", BUILD, hook, str(out)]
    environment = {**os.environ, "PYTHONPATH": str(source.parent)}
    ended = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return out / ended.stdout.splitlines()[-1]


def asked(wheel: Path, *arguments: str) -> str:
    """Run Python with the wheel installed, and return its output."""
    site = wheel.parent / "site"
    zipfile.ZipFile(wheel).extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=site, env=environment, capture_output=True, text=True, check=True).stdout.strip()


def test_metadata_command_and_package_of_a_wheel_state_the_one_version(source: Path) -> None:
    wheel = build("build_wheel", source)
    assert wheel.name.startswith(f"zeroloss-{VERSION}-")
    assert asked(wheel, "-m", "zeroloss", "--version") == VERSION
    assert asked(wheel, "-c", "from zeroloss import reference; print(reference.__version__)") == VERSION


def test_sdist_and_editable_build_find_the_version_without_importing_the_queue(source: Path) -> None:
    sdist = build("build_sdist", source)
    assert sdist.name == f"zeroloss-{VERSION}.tar.gz"
    shutil.unpack_archive(sdist, source.parent)
    assert build("build_wheel", source.parent / f"zeroloss-{VERSION}").name.startswith(f"zeroloss-{VERSION}-")
    assert build("build_editable", source).name.startswith(f"zeroloss-{VERSION}-")


def test_a_wheel_names_its_authors_and_no_address(source: Path) -> None:
    with zipfile.ZipFile(build("build_wheel", source)) as wheel:
        (metadata,) = [wheel.read(name).decode() for name in wheel.namelist() if name.endswith("/METADATA")]
    assert re.findall(r"(?m)^Author.*$", metadata) == ["Author: zeroloss maintainers"]
