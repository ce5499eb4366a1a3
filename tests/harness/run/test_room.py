"""A file system that fills up in mid-run is reported; otherwise it looks like a defect of the process that writes."""

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from zeroloss.history.writer import Recorder
from zeroloss.run.beside import Beside
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
    said = rf"^zeroloss: The file system of {tmp_path}/small/run(/server)? is full \(ENOSPC\): free space there\.$"
    assert re.search(said, ended.stderr, re.MULTILINE), ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_event_that_is_written_in_part_names_what_kept_the_rest(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "harness")
    reader, recorder._fd = os.pipe()  # takes 64 KiB until it is read
    os.set_blocking(recorder._fd, False)
    with pytest.raises(BlockingIOError):
        recorder.record("fault", "missed", fault="slow", number=1, reason="x" * 100_000)
    os.close(reader)


class Failing(Beside):
    def run(self) -> None:
        raise OSError(errno.ENOSPC, "full")


def test_an_error_that_ends_a_thread_beside_a_block_is_raised_at_the_end_of_the_block() -> None:
    with pytest.raises(OSError, match="full"), Failing("failing"):
        pass
    with pytest.raises(LookupError), Failing("failing"):
        raise LookupError


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
