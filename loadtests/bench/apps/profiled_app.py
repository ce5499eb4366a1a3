"""The handlers of `reference_app`, in a worker that writes a profile of itself to `BENCH_PROFILE`.

With `BENCH_FUNCTIONS` cProfile times the claimer's functions, which slows them. It is left out when only the time of
whole threads is wanted: the kernel counts that in any case.
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
    """Start the profile in the claimer's thread; Python calls this at a new thread's first step."""
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
