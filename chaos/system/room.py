"""Detect a full file system. It makes processes fail in many ways, and their errors do not name the cause."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOM_BYTES_MIN = 2**20
"""Bytes that a server may write at once. With less free space it has failed, or will."""


def told_full(place: object) -> str:
    """Return the sentence for the user. `place`: a directory or a file on the full file system."""
    return f"The file system of {place} is full (ENOSPC): free space there."


def full(directory: Path) -> OSError:
    """Return the error (ENOSPC) of a full file system."""
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))


def check_room(directory: Path) -> None:
    """Raise OSError if the file system of `directory` is full."""
    found = os.statvfs(directory)
    blocks = found.f_bfree if os.geteuid() == 0 else found.f_bavail
    if found.f_blocks and blocks * found.f_frsize < ROOM_BYTES_MIN:
        raise full(directory)


@contextmanager
def naming_a_full_file_system(directory: Path) -> Iterator[None]:
    """Raise the error of a full file system in place of any other error that it caused."""
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
