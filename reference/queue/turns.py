"""Large JSON is decoded by one thread at a time.

Decoded it may take thirty times the memory of its text, and with one interpreter lock many threads decode no faster.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

LARGE = 65_536  # bytes or characters

_turn = threading.Lock()


@contextmanager
def turn_to_decode(size: int) -> Iterator[None]:
    """Wait for a turn where `size` is large. Not reentrant; wait for nothing else meanwhile."""
    if size < LARGE:
        yield
        return
    with _turn:
        yield
