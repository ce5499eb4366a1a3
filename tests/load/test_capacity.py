"""The capacity search, its plot, and a small search on a real system."""

import csv
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.processes.load_system import run
from zeroloss.loadtests.capacity import Step, search
from zeroloss.loadtests.plot import plot


@pytest.mark.parametrize("limit_of_the_system", [60, 130, 999, 4_321])
def test_the_search_comes_as_close_as_asked_from_below(limit_of_the_system: int) -> None:
    tried: list[float] = []

    def holds(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit_of_the_system

    best = search(holds, start=50, limit=100_000, precision=0.1)
    assert best is not None
    assert best <= limit_of_the_system <= best * 1.11
    assert len(tried) < 15


def test_a_system_that_holds_at_the_highest_rate_is_asked_no_further() -> None:
    assert search(lambda _: True, start=50, limit=300, precision=0.1) == 300


def test_a_system_that_does_not_even_hold_the_lowest_rate_has_no_capacity() -> None:
    assert search(lambda _: False, start=50, limit=300, precision=0.1) is None


@pytest.mark.parametrize(
    ("start", "limit_of_the_system", "precision", "found"),
    [(1, 1, 0.1, 1), (4, 4, 0.1, 4), (50, 73, 0, 73), (0.1, 0.15, 0.1, 0.1), (0.5, 1.5, 0.1, 1)],
)
def test_the_search_ends_where_no_whole_rate_lies_between_what_held_and_what_broke(
    start: float, limit_of_the_system: float, precision: float, found: float
) -> None:
    tried: list[float] = []

    def holds(rate: float) -> bool:
        assert rate not in tried, "once is enough"
        tried.append(rate)
        return rate <= limit_of_the_system

    assert search(holds, start=start, limit=100, precision=precision) == found


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("--start", "0", "above 0"),
        ("--start", "-5", "above 0"),
        ("--start", "nan", "above 0"),
        ("--precision", "0", "above 0"),
        ("--precision", "-0.1", "above 0"),
        ("--step-s", "0", "at least 1"),  # to Locust, 0 means unlimited
        ("--step-s", "-1", "at least 1"),
    ],
)
def test_a_search_that_would_never_end_is_refused_before_anything_starts(
    option: str, value: str, wanted: str, tmp_path: Path
) -> None:
    ended = run(
        sys.executable, "-m", "zeroloss.loadtests.capacity", f"{option}={value}", "--out", str(tmp_path / "out")
    )
    assert ended.status == 2, ended.said
    assert ended.said.endswith(f"error: argument {option}: must be {wanted}, not {value}\n")
    assert not (tmp_path / "out").exists()


def step(rate: float, ms: float, *, held: bool = True) -> Step:
    return Step(
        asked=rate, rate=rate, p50_ms=ms, p95_ms=ms * 2, p99_ms=ms * 3, effect_p95_ms=ms * 4, held=held, broken=""
    )


def test_the_plot_is_a_drawing_with_a_point_for_each_step_and_hollow_ones_for_the_broken() -> None:
    drawn = plot([step(100, 3), step(400, 900, held=False), step(200, 5)], 200, 100)
    root = ElementTree.fromstring(drawn)
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3 * 4
    assert sum(circle.get("fill") == "white" for circle in circles) == 4
    assert "200 requests/s hold" in drawn


def test_a_search_that_measured_nothing_is_still_a_drawing() -> None:
    assert ElementTree.fromstring(plot([step(0, 0, held=False)], None, 100)) is not None


def test_the_capacity_of_a_real_system_is_measured_and_plotted(tmp_path: Path) -> None:
    lenient = ("--slo-p95-ms", "20000", "--slo-effect-p95-ms", "60000")
    short = ("--start", "10", "--limit", "20", "--step-s", "6", "--out", str(tmp_path))
    ended = run(sys.executable, "-m", "zeroloss.loadtests.capacity", *short, *lenient)
    assert ended.status == 0, ended.said
    assert "Capacity: 20 requests/s hold" in ended.said
    with (tmp_path / "capacity.csv").open(newline="") as file:
        assert [row["asked"] for row in csv.DictReader(file) if row["held"] == "True"] == ["10.0", "20.0"]
    assert ElementTree.parse(tmp_path / "capacity.svg") is not None


def test_a_capacity_that_is_below_the_lowest_rate_ends_with_1_and_says_so(tmp_path: Path) -> None:
    short = ("--start", "5", "--limit", "10", "--step-s", "1", "--out", str(tmp_path), "--slo-p95-ms", "0.01")
    ended = run(sys.executable, "-m", "zeroloss.loadtests.capacity", *short)
    assert ended.status == 1, ended.said
    assert "Not even 5 requests/s hold." in ended.said
    assert "broken. p95 of requests" in ended.said
