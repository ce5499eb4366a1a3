"""Sidekiq on Redis, of the last line without a reliable fetch of its own, and with one added."""

from pathlib import Path
from typing import ClassVar

from ..target import Target
from . import pins

HERE = Path(__file__).parent
SIDEKIQ = ("ruby", "-S", "sidekiq", "--concurrency", "4", "--timeout", "8", "--require")


class Sidekiq(Target):
    """A job is taken off the list before it runs (BRPOP), and is then in its process's memory and nowhere else."""

    name: ClassVar[str] = "sidekiq"
    debian = pins.SIDEKIQ
    worker = (*SIDEKIQ, str(HERE / "sidekiq_app.rb"))
    enqueue_command = ("ruby", str(HERE / "sidekiq_client.rb"))
    recover_within = 3.0
    settings: ClassVar[str] = "concurrency 4 (default 10), shutdown timeout 8 s (default 25)"
    promise: ClassVar[str] = "Basic fetch uses BRPOP: a job that runs when its process crashes is lost."
    promise_url: ClassVar[str] = "https://github.com/sidekiq/sidekiq/wiki/Reliability"


class SidekiqReliable(Sidekiq):
    """Sidekiq with a fetch of forty lines: a job lies in a list of its process until it has run (BRPOPLPUSH).

    Another process puts back what lies in the list of one whose sign of life has run out.
    """

    name: ClassVar[str] = "sidekiq-reliable"
    worker = (*SIDEKIQ, str(HERE / "sidekiq_reliable_fetch.rb"))
    recover_within = 6.0
    settings: ClassVar[str] = (
        "concurrency 4 (default 10), shutdown timeout 8 s (default 25); `fetch` replaced: a sign of life good for 3 s, "
        "written and looked for every second"
    )
    promise: ClassVar[str] = "With a reliable fetch a job is in Redis until it has run, and is recovered after a crash."
