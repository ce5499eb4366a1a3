"""The report of a run: `result.json` for programs, `junit.xml` for pipelines, `report.html` for people."""

from collections.abc import Iterable
from pathlib import Path

from ..checker.verdicts import Result
from ..history import Event
from . import html, junit, result
from .console import console_summary

__all__ = ["console_summary", "write_reports"]


def write_reports(run_directory: Path | str, outcome: Result, events: Iterable[Event]) -> dict[str, Path]:
    """Write all three into the run's directory; returns file name -> path."""
    directory = Path(run_directory)
    return {
        result.NAME: result.write(directory, outcome),
        junit.NAME: junit.write(directory, outcome),
        html.NAME: html.write(directory, outcome, events),
    }
