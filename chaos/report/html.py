"""`report.html`: one file that opens from disk, with everything in it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..checker.evidence import gather
from ..checker.findings import end_to_end_ms
from ..checker.situations import STATES
from ..checker.verdicts import LIVENESS_DEFECTS, VIOLATIONS, Fate, Result, Summary
from ..checker.wording import duration
from ..history import Event
from .console import STORIES_MAX
from .histogram import histogram
from .pack import pack

NAME = "report.html"
ROWS_MAX = 200
TEXT_CHARACTERS_MAX = 300
_HERE = Path(__file__).parent


def write(run_directory: Path, result: Result, events: Iterable[Event]) -> Path:
    """Write the page: below 5 MB for 100,000 tasks. Data from the run is escaped by the template, or packed."""
    path = run_directory / NAME
    path.write_text(render(result, list(events)), encoding="utf-8")
    return path


def render(result: Result, events: Sequence[Event]) -> str:
    """Return the page as HTML."""
    packed, left_out = pack(events, result)
    redelivery_ms = [one.ms for one in result.redeliveries if one.ms is not None]
    return render_template(
        _HERE / "report.html.j2",
        result=result,
        data=packed,
        left_out=left_out,
        scripts=[_asset("traffic.js"), _asset("timeline.js"), _asset("report.js")],
        figures=_figures(result),
        offenders=_offenders(result),
        stories=result.stories[:STORIES_MAX],
        states=STATES,
        duplicates=sorted(result.duplicates, key=lambda one: one.explained)[:ROWS_MAX],
        rows_max=ROWS_MAX,
        charts=[
            chart
            for chart in (
                _chart(
                    "Time to redelivery",
                    "from the fault's effect to the next begin of each task it interrupted",
                    redelivery_ms,
                    result.time_to_redelivery_ms,
                    result.recover_within_s,
                ),
                _chart(
                    "End to end",
                    "from the first attempt to submit to the first end of the body",
                    end_to_end_ms(gather(events)),
                    result.end_to_end_ms,
                    None,
                ),
            )
            if chart
        ],
    )


def render_template(template: Path, **members: Any) -> str:
    """Return a page in the look of the reports, with all text escaped; `css` is the content of its <style>."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["seconds"] = duration
    environment.filters["short"] = lambda text: text if len(text) <= TEXT_CHARACTERS_MAX else f"{text[:300]}…"
    return environment.get_template(template.name).render(css=_asset("report.css"), **members)


def _figures(result: Result) -> list[tuple[str, str, str]]:
    """Return (value, title, remark) of the most important figures."""
    counts = {fate: result.counts.get(fate.value, 0) for fate in Fate}
    bad = sum(counts[fate] for fate in VIOLATIONS | LIVENESS_DEFECTS)
    completed = counts[Fate.DONE] + counts[Fate.DUPLICATE]
    unexplained = sum(not duplicate.explained for duplicate in result.duplicates)
    figures = [
        (f"{completed:,}", "tasks completed", f"of {len(result.fates):,} seen"),
        (
            f"{bad:,}",
            "defects",
            ", ".join(
                f"{count:,} {fate}"
                for fate, count in result.counts.items()
                if Fate(fate) in VIOLATIONS | LIVENESS_DEFECTS
            )
            or "none",
        ),
    ]
    if result.kills.planned:
        kills = result.kills
        figures.append(
            (f"{kills.mid_task:,} / {kills.planned:,}", "kills in a body", f"{kills.effective:,} took effect")
        )
    if result.excuses:
        figures.append((f"{len(result.excuses):,}", "losses explained", "by the server's durability"))
    if load := result.load:
        figures.append((f"{load.rate:,.0f} / s", "requests", f"{load.failures:,} of {load.requests:,} failed"))
    figures.append((f"{len(result.duplicates):,}", "duplicates", f"{unexplained:,} unexplained"))
    times = result.time_to_redelivery_ms
    if times:
        figures.append((duration(times.median), "median redelivery", f"max {duration(times.max)}"))
    times = result.end_to_end_ms
    if times:
        figures.append((duration(times.median), "median end to end", f"p99 {duration(times.p99)}"))
    figures.append((duration(result.duration_ms), "duration", f"seed {result.seed}"))
    return figures


def _offenders(result: Result) -> list[tuple[Fate, list[str], int]]:
    """Return (outcome, some of its tasks, the number of its tasks), the worst first."""
    worst_first = (*sorted(VIOLATIONS), *sorted(LIVENESS_DEFECTS), Fate.UNDECIDED, Fate.EXCUSED, Fate.DEAD)
    found = [(fate, result.tasks(fate)) for fate in worst_first]
    return [(fate, tasks[:ROWS_MAX], len(tasks)) for fate, tasks in found if tasks]


def _chart(
    title: str, remark: str, values_ms: list[float], summary: Summary | None, promised_s: float | None
) -> dict[str, Any] | None:
    bars = histogram(values_ms)
    if bars is None or summary is None:
        return None
    marks = [("median", summary.median), ("p99", summary.p99)]
    if promised_s:
        marks.append(("promised", promised_s * 1000))
    return {
        "title": title,
        "remark": remark,
        "histogram": bars,
        "summary": summary,
        "marks": [(name, bars.place(ms), ms) for name, ms in marks if ms <= bars.high_ms],
    }


def _asset(name: str) -> Markup:
    # Assets are our own, without closing tags; everything that came from the run goes through autoescape.
    return Markup((_HERE / name).read_text(encoding="utf-8"))
