"""The line that shows the progress of a run."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ..history.masking import masked

PLAIN_EVERY_S = 5.0
REFRESH_PER_S = 4


class Progress:
    """Shows one line that is redrawn on a terminal; elsewhere prints a plain line every few seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=REFRESH_PER_S, transient=True)
        self._said_at = time.monotonic()

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(masked(line), highlight=False, markup=False, soft_wrap=True)

    def show(
        self,
        phase: str,
        *,
        submitted: int,
        acked: int,
        done: int,
        kills: int,
        planned: int,
        mid_task: int,
        left_s: float,
    ) -> None:
        """Show the current counts. `left_s`: seconds until this phase ends at the latest."""
        line = (
            f"{phase}: {submitted:,} submitted, {acked:,} acked, {done:,} done, "
            f"faults {kills}/{planned} ({mid_task} mid-task), backlog {max(0, acked - done):,}, "
            f"{max(0.0, left_s):.0f} s left"
        )
        if self._console.is_terminal:
            self._live.update(Text(line, no_wrap=True, overflow="ellipsis"))
        elif time.monotonic() - self._said_at >= PLAIN_EVERY_S:
            self._said_at = time.monotonic()
            self.say(line)
