"""A file system that fills up in mid-run is reported; otherwise it looks like a defect of the process that writes."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest
from zeroloss.system.room import naming_a_full_file_system

MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
"""Mounts a small file system in a separate mount namespace; both end with the last process in it."""


def run_in(directory: Path, size: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the harness with its directory on a small separate file system."""
    small = directory / "small"
    small.mkdir()
    command = [sys.executable, "-m", "zeroloss", "run", "--tasks", "200", "--faults", "none", "--seed", "1"]
    command += ["--out", str(small / "run"), *words]
    alone = ["unshare", "--mount", "--user", "--map-root-user", "sh", "-c", MOUNT, "sh", size, str(small), *command]
    return subprocess.run(alone, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("size", ["4k", "1m", "1500k", "2m"])
def test_a_file_system_that_is_full_is_named_whatever_ends_by_it(size: str, tmp_path: Path) -> None:
    ended = run_in(tmp_path, size, "--redis", "embedded")
    assert ended.returncode == 70, ended.stdout + ended.stderr
    said = rf"^zeroloss: The file system of {tmp_path}/small/run(/server)? is full \(ENOSPC\): make room there\.$"
    assert re.search(said, ended.stderr, re.MULTILINE), ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_error_that_a_full_file_system_has_brought_about_is_replaced_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=str(tmp_path)) as raised, naming_a_full_file_system(tmp_path):
        try:
            (tmp_path / "full").symlink_to("/dev/full")
            (tmp_path / "full").write_text("x")
        except OSError as error:
            raise RuntimeError("A thread failed.") from error
    assert raised.value.errno == errno.ENOSPC


def test_any_other_error_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(LookupError), naming_a_full_file_system(tmp_path):
        raise LookupError
