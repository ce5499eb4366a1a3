"""All parts of the queue, started by one command as a new user does."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil

from support.places import ROOT
from support.processes.worker_process import IN_OTHER_WORDS
from support.waiting import living, wait_until


class Up:
    """`python -m zeroloss.reference up`, with output to a file; `before` is code that its process runs first."""

    def __init__(self, log: Path, *arguments: str, before: str | None = None, cwd: Path = ROOT, **environ: str) -> None:
        self.log = log
        how = ["-m", "zeroloss.reference"] if before is None else ["-c", IN_OTHER_WORDS.format(before=before)]
        ports = [] if "--producer-port" in arguments else ["--producer-port", "0", "--monitor-port", "0"]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *how, "up", *ports, *arguments],
                cwd=cwd,
                env={**os.environ, "TMPDIR": str(log.parent), "ZEROLOSS_GRACE_MS": "3000", **environ},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.log.read_text()

    def started(self) -> "Up":
        """Wait until all parts run."""
        wait_until(lambda: "worker    5 threads" in self.said() and len(self.addresses()) == 2, 20)
        wait_until(lambda: self.parts()["worker"].children(), 20)
        return self

    def addresses(self) -> dict[str, str]:
        return dict(re.findall(r"(producer|monitor) listening on (http://[\d.]+:\d+)", self.said()))

    def redis_url(self) -> str:
        found = re.search(r"^server    (\S+)", self.said(), re.MULTILINE)
        assert found, self.said()
        return found[1]

    def post(self, **task: Any) -> None:
        request = urllib.request.Request(
            self.addresses()["producer"] + "/task",
            data=json.dumps(task).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 202
            assert json.load(answer)["status"] == "queued"

    def completed(self) -> int:
        with urllib.request.urlopen(self.addresses()["monitor"] + "/stats") as answer:
            return int(json.load(answer)["counters"]["completed"])

    def parts(self) -> dict[str, psutil.Process]:
        """Return the child processes by name, without the worker's own children."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            command = child.cmdline()
            found[command[command.index("zeroloss.reference") + 1] if "zeroloss.reference" in command else "server"] = (
                child
            )
        return found

    def everyone(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 30) -> int:
        return self.process.wait(timeout_s)

    def end(self) -> None:
        if self.process.poll() is None:
            everyone = self.everyone()
            self.signal(signal.SIGTERM)
            try:
                self.wait()
            finally:
                for process in living(everyone):
                    process.kill()
                self.process.kill()
