"""Handlers that start processes. Each note is a file in the folder NOTES, where the test reads it."""

import json
import multiprocessing
import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from zeroloss.reference import Task, handler

NOTES = Path(os.environ["NOTES"])
fork = multiprocessing.get_context("fork")


def note(name: str, text: object = "") -> None:
    """Write a note; the rename lets no reader see part of the text."""
    (NOTES / f"{name}.{os.getpid()}").write_text(str(text))
    (NOTES / f"{name}.{os.getpid()}").rename(NOTES / name)


def wait_for(name: str) -> None:
    while not (NOTES / name).exists():
        time.sleep(0.005)


def square(number: int) -> int:
    return number * number


@handler("take a while")
def take_a_while(task: Task) -> None:
    note(f"begun-{task.id}", os.getpid())
    time.sleep(1.5)
    note(f"ended-{task.id}")


@handler("pool")
def use_a_pool(task: Task) -> None:
    with fork.Pool(4) as pool:
        assert pool.map(square, range(4)) == [0, 1, 4, 9]


@handler("pool with a time-out")
def leave_a_pool_that_is_busy(task: Task) -> None:
    with fork.Pool(2) as pool:
        try:
            pool.apply_async(time.sleep, (600,)).get(timeout=0.2)
        except multiprocessing.TimeoutError:
            return
    raise AssertionError


@handler("executor")
def use_an_executor(task: Task) -> None:
    with ProcessPoolExecutor(2, mp_context=fork) as executor:
        assert list(executor.map(square, range(4))) == [0, 1, 4, 9]


@handler("terminate at once")
def terminate_processes_that_have_just_begun(task: Task) -> None:
    for _ in range(50):
        process = fork.Process(target=time.sleep, args=(600,))
        process.start()
        process.terminate()
        process.join()
        assert process.exitcode == -15, process.exitcode


def look(pid: int | str) -> str:
    """Return the signal masks of a process and the files behind its descriptors."""
    masks = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "Sig" in line)
    files = [str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir() if file.is_symlink()]
    return json.dumps({**masks, "files": files})


@handler("look")
def look_at_a_child(task: Task) -> None:
    note("worker", look("self"))
    if task.payload == "fork":
        pid = os.fork()
        if not pid:
            note("child", look("self"))
            os._exit(0)
    elif task.payload == "subprocess":
        pid = subprocess.Popen(["sleep", "600"], close_fds=False).pid
    else:
        pid = os.posix_spawnp("sleep", ["sleep", "600"], os.environ)
    if task.payload != "fork":
        note("child", look(pid))
        os.kill(pid, 9)
    os.waitpid(pid, 0)


@handler("leave a child behind")
def leave_a_child_behind(task: Task) -> None:
    """Fork a child that lives until the test releases it."""
    if task.attempt == 1:
        if not os.fork():
            note("child", os.getpid())
            wait_for("release")
            os._exit(0)
        time.sleep(600)
    note("again")


@handler("let a child return")
def let_a_child_return(task: Task) -> None:
    """Let a forked child return from the handler, into the loop of the worker's thread."""
    if not (pid := os.fork()):
        if task.payload == "raise":
            raise ValueError("in the child")
        return
    note("status", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    wait_for("release")


@handler("leave a process in the background")
def leave_a_process_in_the_background(task: Task) -> None:
    shell = subprocess.run(
        ["sh", "-c", "sleep 600 >/dev/null & echo $!"], check=True, stdout=subprocess.PIPE, text=True
    )
    note(f"background-{task.id}", shell.stdout)
