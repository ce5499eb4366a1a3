"""The installed package: one top-level name, all of its files, and no conflict with a user's folders."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from support.places import ROOT

FOLDERS = {"chaos": "zeroloss", "reference": "zeroloss/reference", "loadtests": "zeroloss/loadtests"}
IMPORT = re.compile(r"^\s*(?:from|import)\s+([\w.]+)", re.MULTILINE)


def tracked(*folders: str) -> list[PurePosixPath]:
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return [PurePosixPath(line) for line in listed.stdout.splitlines() if (ROOT / line).exists()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the tracked files."""
    folder = tmp_path_factory.mktemp("wheel")
    for path in tracked():
        (folder / "source" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / "source" / path)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run([*pip, folder / "source"], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def interpreter(wheel: Path) -> Path:
    """An interpreter with the wheel installed, and with the libraries of this interpreter."""
    folder = wheel.parent / "venv"
    venv.create(folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", wheel]
    subprocess.run(pip, check=True, capture_output=True)
    return python


@pytest.fixture
def foreign(tmp_path: Path) -> Iterator[Path]:
    """A user's repository with folders that have the project's former package names."""
    for name in ("chaos", "reference", "loadtests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text('"""Someone else\'s."""\n')
    (tmp_path / "test_theirs.py").write_text("import chaos, reference, loadtests\n\ndef test_theirs():\n    pass\n")
    yield tmp_path


def run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )


def test_the_wheel_has_one_top_level_name(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops >= {"zeroloss"}
    assert all(top == "zeroloss" or re.fullmatch(r"zeroloss-[\d.]+\.(dist-info|data)", top) for top in tops)


def test_the_wheel_holds_every_file_of_its_folders_and_no_other(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("zeroloss/")}
    expected = {
        str(FOLDERS[path.parts[0]] / PurePosixPath(*path.parts[1:]))
        for path in tracked(*FOLDERS)
        if path.parts[:2] != ("loadtests", "bench")
    }
    assert inside == expected


def test_the_source_distribution_holds_every_file_that_the_readme_tells_to_run(wheel: Path) -> None:
    folder = wheel.parent
    build = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    ended = subprocess.run(
        [sys.executable, "-c", build, folder], cwd=folder / "source", check=True, capture_output=True, text=True
    )
    with tarfile.open(folder / ended.stdout.splitlines()[-1]) as archive:
        inside = {"/".join(PurePosixPath(name).parts[1:]) for name in archive.getnames()}
    wanted = {str(path) for path in tracked() if not path.parts[0].startswith(".")}
    assert wanted <= inside, sorted(wanted - inside)


def test_pytest_runs_in_a_repository_with_folders_of_our_former_names(interpreter: Path, foreign: Path) -> None:
    ended = run(foreign, interpreter, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "1 passed" in ended.stdout


def test_the_harness_runs_in_a_repository_with_folders_of_our_former_names(interpreter: Path, foreign: Path) -> None:
    faults = ("--faults", "worker-sigkill", "--tasks", "200", "--kills", "2", "--seed", "1")
    command = ("run", "--redis", "embedded", *faults, "--out", "out")
    ended = run(foreign, interpreter.with_name("zeroloss"), *command)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " PASS " in ended.stdout


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_inside_a_folder_are_relative_and_across_folders_by_the_installed_name(folder: str) -> None:
    package = FOLDERS[folder].replace("/", ".")
    others = [name.replace("/", ".") for name in FOLDERS.values() if name != FOLDERS[folder]]
    for path in tracked(folder):
        if path.suffix != ".py" or path.name == "locustfile.py" or {"apps", "mixes"} & set(path.parts):  # by path
            continue
        for name in IMPORT.findall((ROOT / path).read_text()):
            assert name.split(".")[0] not in FOLDERS, f"{path} imports {name}"
            inside = name == package or name.startswith(f"{package}.")
            across = any(name == other or name.startswith(f"{other}.") for other in others if len(other) > len(package))
            assert across or not inside, f"{path} imports {name}, its own package, by its whole name"


def test_in_a_checkout_the_folder_s_name_leads_to_the_installed_package() -> None:
    ended = subprocess.run([sys.executable, "-m", "reference", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert ended.stdout.startswith("usage: python -m zeroloss.reference "), ended.stdout + ended.stderr


def test_handlers_that_were_registered_in_another_copy_are_named(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "reference", tmp_path / "theirs", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "app.py").write_text("from theirs import handler\n\n@handler('a')\ndef a(task): pass\n")
    ended = run(tmp_path, sys.executable, "-m", "zeroloss.reference", "worker", "--app", "app")
    assert ended.returncode == 2
    assert "its handlers are those of theirs, and this is zeroloss.reference" in ended.stderr


def test_a_target_that_imports_us_by_our_former_name_learns_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from chaos.target import Target\n")
    ended = run(tmp_path, sys.executable, "-m", "zeroloss", "run", "--target", "mine.py:Mine")
    assert ended.returncode == 2
    assert "write: from zeroloss import Target" in ended.stderr
