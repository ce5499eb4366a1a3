"""Our threads: none of their names is one that `threading.Thread` uses for itself, and none dies unnoticed."""

import importlib
import pkgutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from queue_fixtures import Queue

import chaos
import reference
from reference.worker import BUG_STATUS

ROOT = Path(__file__).parent.parent


def thread_classes() -> list[type[threading.Thread]]:
    for package in (reference, chaos):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", "sitecustomize", "_worker", "_app")):
                importlib.import_module(module.name)
    return [one for one in threading.Thread.__subclasses__() if one.__module__.split(".")[0] in ("reference", "chaos")]


@pytest.mark.parametrize("one", thread_classes(), ids=lambda one: one.__name__)
def test_no_name_of_ours_is_one_of_the_library_s_own(one: type[threading.Thread]) -> None:
    own = {name for name in vars(one) if not name.startswith("__")} - {"run"}
    assert not own & {*dir(threading.Thread), *vars(threading.Thread())}


BROKEN = """
import sys
from reference import worker
from reference.config import Config
getattr(worker, sys.argv[1]).run = lambda self: None
worker.run_worker(Config(redis_url=sys.argv[2]), "w1", {"default": print})
"""


@pytest.mark.parametrize("broken", ["Claimer", "HandlerThread", "Maintenance"])
def test_a_worker_one_of_whose_threads_broke_ends_and_says_so(broken: str, queue: Queue) -> None:
    command = [sys.executable, "-c", BROKEN, broken, queue.config.redis_url]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == BUG_STATUS
    assert "left to recovery" in ended.stderr
