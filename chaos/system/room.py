"""Tells that a file system is full, which ends processes in many ways: none of them says so."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOM_BYTES_MIN = 2**20
"""What a server writes at once may take as much: with less it has ended, or will."""


def told_full(place: object) -> str:
    """The sentence for the user. `place`: a directory or a file on it."""
    return f"The file system of {place} is full (ENOSPC): make room there."


def full(directory: Path) -> OSError:
    """The error of a file system that is full."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))


def check_room(directory: Path) -> None:
    """Raises OSError: the file system that holds it is full."""
    found = os.statvfs(directory)
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    if found.f_blocks and blocks * found.f_frsize < ROOM_BYTES_MIN:
        raise full(directory)


@contextmanager
def naming_a_full_file_system(directory: Path) -> Iterator[None]:
    """Raises the error of a full file system in place of any other that it brings about."""
    try:
        yield
    except Exception as error:
        if _out_of_space(error):
            raise full(directory) from error
        check_room(directory)
        raise


def _out_of_space(error: BaseException | None) -> bool:
    while error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return True
        error = error.__cause__
    return False
