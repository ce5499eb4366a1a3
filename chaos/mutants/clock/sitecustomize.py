"""A wrong clock for every Python process with this folder on its path: an hour ahead (odd pid) or behind (even pid).

Only `time.time` and `time.time_ns` are wrong: a wrong wall clock does not affect the monotonic clock, which timeouts
and the history need.
"""

import os
import time

_OFFSET_S = 3_600 if os.getpid() % 2 else -3_600
_time, _time_ns = time.time, time.time_ns


def _wrong_time() -> float:
    return _time() + _OFFSET_S


def _wrong_time_ns() -> int:
    return _time_ns() + _OFFSET_S * 1_000_000_000


time.time, time.time_ns = _wrong_time, _wrong_time_ns
