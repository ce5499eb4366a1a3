"""The handlers of `reference_app` in a worker that lets itself be looked at, by what it writes to `BENCH_PROFILE`.

With `BENCH_FUNCTIONS` the claimer's functions are timed by cProfile. That slows them, and is left out where the time of
whole threads is asked for: the kernel counts that anyway.
"""

import cProfile
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import reference_app  # noqa: F401  registers the handlers

WRITE_S = 0.2

_target = Path(os.environ["BENCH_PROFILE"])
_profile = cProfile.Profile()


def _begin(_frame: Any, _event: str, _argument: Any) -> None:
    """Called at a new thread's first step."""
    sys.setprofile(None)
    if threading.current_thread().name == "claimer":
        _profile.enable()


def _write() -> None:
    while True:
        time.sleep(WRITE_S)
        threads = {thread.native_id: thread.name for thread in threading.enumerate() if thread.native_id}
        functions = [(_named(entry.code), entry.inlinetime) for entry in _profile.getstats()]
        part = _target.with_suffix(".part")
        part.write_text(json.dumps({"pid": os.getpid(), "threads": threads, "functions": functions}))
        part.rename(_target)


def _named(code: Any) -> str:
    return code if isinstance(code, str) else f"{Path(code.co_filename).name}:{code.co_qualname}"


threading.Thread(target=_write, name="profile", daemon=True).start()
if os.environ.get("BENCH_FUNCTIONS"):
    threading.setprofile(_begin)
