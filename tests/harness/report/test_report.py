"""The reports: JSON for programs, JUnit for pipelines, and an HTML page that opens from disk and escapes strings."""

import html
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
from junitparser import JUnitXml
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from support.histories import Story
from zeroloss.cause import explained
from zeroloss.checker.judge import judge
from zeroloss.checker.situations import SITUATIONS
from zeroloss.checker.verdicts import Result
from zeroloss.history import Effect, Event, Submit
from zeroloss.invariants import INVARIANTS
from zeroloss.report import console_summary, write_reports
from zeroloss.report.histogram import histogram
from zeroloss.report.pack import PACKED_BYTES_MAX, pack
from zeroloss.report.result import read

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">&amp;'\x00\x1b[31m\u2028{{7*7}}[bold]"


def a_run_with_everything() -> Story:
    story = Story().begin(
        server={"sentence": "embedded Valkey 9.1"},
        durability={"sentence": "AOF, fsync always"},
        versions={"zeroloss": "0.1.0"},
    )
    story.add("process", "start", role="worker", sid=100).add("process", "start", role="worker", sid=200)
    for task in ("plain", "twice", "struck", "lost", HOSTILE):
        story.submit(task)
    story.ran("plain").ran("twice").started("struck", "s1")
    story.add("process", "exit", role="worker", sid=100, status=-9, wanted=True)
    story.kill(1, pids=(100,), tasks=("struck",))
    story.ran("twice", pid=200).ran("struck", pid=200).missed(2)
    story.add("effect", "begin", pid=200, task=HOSTILE, execution="h", attempt=3)
    story.add("effect", "error", pid=200, task=HOSTILE, execution="h", error=f"ValueError: {HOSTILE}")
    story.add("process", "exit", role="producer", sid=300, status=1, wanted=False)
    return story.deadline(**{HOSTILE: ("dead_letter", HOSTILE)}).end(**{HOSTILE: ("dead_letter", HOSTILE)})


def reported(directory: Path, story: Story) -> tuple[Result, dict[str, Path]]:
    result = explained(directory, judge(story.events), story.events)
    return result, write_reports(directory, result, story.events)


def text_of(result: Result, report: Path | None = None) -> str:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(console_summary(result, report), soft_wrap=True)
    return console.export_text()


# result.json ------------------------------------------------------------------------------------------------------


def test_result_json_holds_the_result_in_a_stable_order(tmp_path: Path) -> None:
    result, paths = reported(tmp_path, a_run_with_everything())
    assert set(paths) == {"result.json", "junit.xml", "report.html"}
    first = paths["result.json"].read_bytes()
    assert read(tmp_path) == result
    assert list(json.loads(first))[:3] == ["verdict", "exit_code", "because"]
    reported(tmp_path, a_run_with_everything())
    assert paths["result.json"].read_bytes() == first


@pytest.fixture
def excused() -> Result:
    """The result of a run whose server had no persistence and was killed."""
    return judge(an_excused_run().events)


def an_excused_run() -> Story:
    story = Story().begin(durability={"appendonly": False, "save": "", "sentence": "No AOF"}).submit("done").ran("done")
    story.submit("gone").submit(HOSTILE).kill(1, name="server-sigkill").deadline()
    return story.end()


# junit.xml --------------------------------------------------------------------------------------------------------


def test_junit_has_a_case_for_the_verdict_each_law_and_each_fault(tmp_path: Path) -> None:
    _, paths = reported(tmp_path, a_run_with_everything())
    (suite,) = JUnitXml.fromfile(str(paths["junit.xml"]))
    failed = {case.name: bool(case.result) for case in suite}
    assert failed == {
        "verdict": True,
        "I1 Conservation": True,
        "I2 No loss": True,
        **dict.fromkeys(NOT_TESTED, True),
        "I4 Bounded recovery": False,
        "I6 No invention": False,
        "fault 1 worker-kill": False,
        "fault 2 worker-kill": True,
    }
    assert (suite.tests, suite.failures, suite.skipped) == (11, 4, 4)
    law = next(case for case in suite if case.name == "I2 No loss")
    assert law.result[0].text == "Task lost was accepted, never completed, and is gone."


NOT_TESTED = [f"{number} {INVARIANTS[number].title}" for number in ("I3", "I5", "I7", "I8")]


def test_junit_names_at_most_twenty_offenders(tmp_path: Path) -> None:
    story = Story().begin()
    for number in range(25):
        story.submit(f"t{number}")
    _, paths = reported(tmp_path, story.deadline().end())
    (suite,) = JUnitXml.fromfile(str(paths["junit.xml"]))
    law = next(case for case in suite if case.name == "I2 No loss")
    assert law.result[0].text.count("\n") == 20
    assert law.result[0].text.endswith("and 5 more")


def test_junit_has_no_failure_exactly_when_the_run_passed(tmp_path: Path) -> None:
    _, paths = reported(tmp_path, Story().begin().submit("a").ran("a").drained().end())
    (suite,) = JUnitXml.fromfile(str(paths["junit.xml"]))
    assert (suite.tests, suite.failures, suite.errors) == (9, 0, 0)


@pytest.mark.parametrize("excuses", [True, False])
def test_every_report_of_a_run_that_did_not_pass_has_the_whole_line_that_repeats_it(
    tmp_path: Path, excuses: bool
) -> None:
    # Longer than the limit of other texts, and with characters that a shell would interpret.
    plan = f"my runs/{'x' * 320}; rm -rf/plan.json"
    durability = {"appendonly": not excuses, "save": ""}
    story = Story().begin(durability=durability, repeat=["zeroloss", "replay", plan]).submit("a").ran("a")
    story.submit("gone")
    result, paths = reported(tmp_path, story.kill(1, name="server-sigkill").deadline().end())
    assert result.verdict == ("EXCUSED" if excuses else "VIOLATION")
    line = f"zeroloss replay '{plan}'"
    assert line in text_of(result)
    assert line in html.unescape(paths["report.html"].read_text())
    (suite,) = JUnitXml.fromfile(str(paths["junit.xml"]))
    verdict = next(case for case in suite if case.name == "verdict")
    assert f"Repeat with: {line}" in verdict.result[0].text


def test_junit_survives_what_xml_cannot_hold(tmp_path: Path) -> None:
    story = Story().begin(target=HOSTILE).submit(HOSTILE).deadline().end()
    _, paths = reported(tmp_path, story)
    (suite,) = JUnitXml.fromfile(str(paths["junit.xml"]))
    law = next(case for case in suite if case.name == "I2 No loss")
    assert "</script><img" in law.result[0].text
    assert "\\u0000\\u001b" in law.result[0].text


# The console ------------------------------------------------------------------------------------------------------


def test_the_console_shows_verdict_kills_duplicates_times_and_report() -> None:
    text = text_of(judge(a_run_with_everything().events), Path("runs/1/report.html"))
    assert "VIOLATION  1 task was promised and lost (LOST)." in text
    assert "1 of 2 hit a task in its body, 1 took effect" in text
    assert "twice completed 2 times: fault 1 (worker-kill)" in text
    assert "redelivery    median 30 ms, max 30 ms (1 interrupted task)" in text
    assert "A producer (300) exited with status 1" in text
    assert "runs/1/report.html" in text
    assert "zeroloss run --seed 7" in text


def test_the_console_bounds_its_lists_and_shows_the_unexplained_first() -> None:
    story = Story().begin()
    for number in range(30):
        story.submit(f"t{number}")
    for number in range(30):
        story.ran(f"t{number}", pid=100)
    story.kill(1, pids=(100,))
    for number in range(30):
        story.ran(f"t{number}", pid=200)
    story.submit("odd").ran("odd", pid=200).ran("odd", pid=200)
    lines = text_of(judge(story.drained().end().events)).splitlines()
    first = next(number for number, line in enumerate(lines) if "31, 1 of them unexplained" in line)
    assert "odd completed 2 times: unexplained" in lines[first + 1]
    assert "and 21 more in the report" in lines[first + 11]


def test_the_console_takes_no_orders_from_a_task_id() -> None:
    text = text_of(judge(Story().begin().submit(HOSTILE).deadline().end().events))
    assert "[bold]" in text
    assert "\\x1b[31m" in text


# report.html ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    complaints: list[str] = []
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith("file:") else None)
    yield page
    page.close()
    assert complaints == []


def open_report(page: Page, path: Path, fragment: str = "") -> None:
    page.goto(f"{path.as_uri()}{fragment}")
    page.wait_for_selector("html[data-ready=yes]", timeout=20_000)


def unfold(page: Page) -> None:
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")


def test_the_page_opens_from_disk_without_a_complaint_and_shows_the_verdict(tmp_path: Path, page: Page) -> None:
    result, paths = reported(tmp_path, a_run_with_everything())
    open_report(page, paths["report.html"])
    assert page.inner_text("#verdict") == "VIOLATION"
    assert page.inner_text("#because") == result.because
    unfold(page)
    body = page.inner_text("body")
    for expected in (
        "embedded Valkey 9.1",
        "AOF, fsync always",
        "zeroloss run --seed 7",
        "exit status -9",
        "zeroloss 0.1.0",
    ):
        assert expected in body


def test_the_page_refers_to_nothing_outside_itself(tmp_path: Path) -> None:
    _, paths = reported(tmp_path, a_run_with_everything())
    page = paths["report.html"].read_text()
    assert "http:" not in page
    assert "https:" not in page
    assert "url(" not in page


def test_a_link_to_a_task_tells_its_story_in_words(tmp_path: Path, page: Page) -> None:
    _, paths = reported(tmp_path, a_run_with_everything())
    open_report(page, paths["report.html"], "#task=struck")
    lines = page.inner_text("#task ol").splitlines()
    told = [line.split("ms ", 1)[1] for line in lines]
    assert told == [
        "submitted",
        "acknowledged: promised",
        "began in process 100",
        "fault 1 (worker-kill) interrupted it: exit status -9",
        "this execution did not end (fault 1 (worker-kill))",
        "began in process 200",
        "completed in process 200, after 10.0 ms",
    ]
    assert page.inner_text("#task .fate") == "DONE"


def test_a_click_on_a_task_shows_it_and_changes_the_address(tmp_path: Path, page: Page) -> None:
    _, paths = reported(tmp_path, a_run_with_everything())
    open_report(page, paths["report.html"])
    unfold(page)
    page.click("a:text-is('twice')")
    page.wait_for_selector("#task h3:has-text('twice')")
    assert page.url.endswith("#task=twice")
    assert page.inner_text("#task .fate") == "DUPLICATE"


def test_a_click_on_an_execution_in_the_picture_shows_its_task(tmp_path: Path, page: Page) -> None:
    _, paths = reported(
        tmp_path,
        Story()
        .begin()
        .submit("only")
        .started("only", "x")
        .add("effect", "end", pid=100, task="only", execution="x", at_ms=5_000)
        .drained()
        .end(),
    )
    open_report(page, paths["report.html"])
    box = page.locator("#timeline canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 14)
    assert "only\nDONE: completed in process 100" in page.inner_text("#tip")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 14)
    page.wait_for_selector("#task h3:has-text('only')")


def test_the_picture_zooms_with_the_wheel(tmp_path: Path, page: Page) -> None:
    _, paths = reported(tmp_path, a_run_with_everything())
    open_report(page, paths["report.html"])
    picture = "document.querySelector('canvas').toDataURL()"
    whole = page.evaluate(picture)
    box = page.locator("#timeline canvas").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 14)
    page.mouse.wheel(0, -300)
    page.wait_for_function(f"whole => {picture} !== whole", arg=whole)
    page.mouse.dblclick(box["x"] + box["width"] - 2, box["y"] + box["height"] - 4)
    page.wait_for_function(f"whole => {picture} === whole", arg=whole)


def test_hostile_ids_and_errors_are_shown_as_text(tmp_path: Path, page: Page) -> None:
    _, paths = reported(tmp_path, a_run_with_everything())
    open_report(page, paths["report.html"], "#task=" + quote(HOSTILE, safe=""))
    assert page.title() == "VIOLATION: mine"
    assert page.locator("img").count() == 0
    story = page.text_content("#task") or ""
    assert "</script><img src=x" in story
    assert "attempt 3" in story
    assert "found in dead_letter after deadline: </script>" in story
    assert page.inner_text("#task .fate") == "DEAD"
    unfold(page)
    page.locator("td.ids a", has_text="</script>").click()
    assert page.inner_text("#task .fate") == "DEAD"


def test_a_task_that_is_not_known_is_reported_as_unknown(tmp_path: Path, page: Page) -> None:
    _, paths = reported(tmp_path, a_run_with_everything())
    open_report(page, paths["report.html"], "#task=%E0%A4%A")
    assert page.inner_text("#task") == "This page knows no task %E0%A4%A."


def test_the_theme_follows_the_system_and_the_button_turns_it(tmp_path: Path, page: Page) -> None:
    _, paths = reported(tmp_path, a_run_with_everything())
    page.emulate_media(color_scheme="dark")
    open_report(page, paths["report.html"])
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(19, 20, 22)"
    page.click("#theme")
    assert page.evaluate(background) == "rgb(247, 247, 245)"


def lost_with_a_story(directory: Path) -> Path:
    """Write the page of a run that lost four tasks, and return its path."""
    story = Story().begin(date="2026-11-29 09:00 UTC", machine="Linux, 2 processors", commit="0123456789ab")
    for number in range(1, 5):
        story.submit(f"lost-{number}").started(f"lost-{number}", f"e{number}", 100 + number)
        story.kill(number, pids=(100 + number,), tasks=(f"lost-{number}",), name="worker-sigkill")
    story.submit("good").started("good", "e9", 200).add("effect", "end", pid=200, task="good", execution="e9")
    return reported(directory, story.drained().end())[1]["report.html"]


def test_verdict_cause_timeline_and_three_stories_are_open_and_the_rest_is_folded(tmp_path: Path, page: Page) -> None:
    open_report(page, lost_with_a_story(tmp_path))
    tops = [page.locator(one).bounding_box()["y"] for one in ("#verdict", "#cause", "#timeline", "#stories")]  # type: ignore[index]
    assert tops == sorted(tops)
    assert tops[2] < 900, "the timeline begins on the first screen"
    assert "4 tasks were lost, interrupted in their bodies." in page.inner_text("#cause")
    assert page.locator("#stories h3 a").all_inner_texts() == ["lost-1", "lost-2", "lost-3"]
    assert "fault 1 (worker-sigkill) interrupted it" in page.inner_text("#stories")
    assert page.locator("details[open]").count() == 0
    assert page.inner_text("#circumstances") == "2026-11-29 09:00 UTC · Linux, 2 processors · commit 0123456789ab"
    page.click("#stories a:text-is('lost-2')")
    page.wait_for_selector("#task h3:has-text('lost-2')")


def test_the_picture_of_a_run_that_failed_shows_first_only_what_went_wrong(tmp_path: Path, page: Page) -> None:
    open_report(page, lost_with_a_story(tmp_path))
    picture = "document.querySelector('canvas').toDataURL()"
    assert page.is_checked("#focus")
    filtered = page.evaluate(picture)
    page.uncheck("#focus")
    page.wait_for_function(f"filtered => {picture} !== filtered", arg=filtered)


def test_the_picture_of_a_run_that_passed_has_nothing_to_choose(tmp_path: Path, page: Page) -> None:
    story = Story().begin().submit("only").started("only", "x")
    story.add("effect", "end", pid=100, task="only", execution="x")
    open_report(page, reported(tmp_path, story.drained().end())[1]["report.html"])
    assert page.is_hidden("#focus")


def test_a_page_on_a_phone_does_not_scroll_sideways(tmp_path: Path, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    open_report(page, lost_with_a_story(tmp_path))
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_law_that_was_not_tested_is_not_reported_as_kept(tmp_path: Path, page: Page) -> None:
    open_report(page, lost_with_a_story(tmp_path))
    unfold(page)
    rows = dict(row.rsplit("\t", 1) for row in page.inner_text("#laws tbody").splitlines() if "\t" in row)
    said = {row[:2]: text for row, text in rows.items()}
    assert {law for law, text in said.items() if text == "not tested"} == {"I3", "I5", "I7", "I8"}
    assert said["I6"] == "no violation seen"


def test_an_empty_history_still_has_a_page(tmp_path: Path, page: Page) -> None:
    result = judge([])
    paths = write_reports(tmp_path, result, [])
    open_report(page, paths["report.html"])
    assert page.inner_text("#verdict") == "INCONCLUSIVE"


def many(count: int, digits: int) -> list[Event]:
    """Return a run with incompressible ids of `digits` hexadecimal digits each."""
    import hashlib

    events = list(Story().begin().events)
    clock = itertools.count(10_000_000, 70_001)
    for number in range(count):
        task = "".join(hashlib.sha256(f"{number} {part}".encode()).hexdigest() for part in range(digits // 64 + 1))[
            :digits
        ]
        events += [
            Submit(t=next(clock), pid=1, phase="invoke", task=task),
            Submit(t=next(clock), pid=1, phase="ok", task=task),
            Effect(t=next(clock), pid=100, phase="begin", task=task, execution=str(number)),
            Effect(t=next(clock), pid=100, phase="end", task=task, execution=str(number)),
        ]
    return events


def test_a_page_too_large_leaves_out_plain_tasks_first_and_says_so(tmp_path: Path, page: Page) -> None:
    events = many(6_000, digits=2_000)
    special = Story().submit("special").events
    last = events[-1].t
    events += [msgspec.structs.replace(event, t=last + event.t) for event in special]
    end = Story().deadline().end().events
    events += [msgspec.structs.replace(event, t=2 * last + event.t) for event in end]
    result = judge(events)
    packed, left_out = pack(events, result)
    assert len(packed) <= PACKED_BYTES_MAX
    assert 0 < left_out < 5_000
    paths = write_reports(tmp_path, result, events)
    assert paths["report.html"].stat().st_size < 5_000_000
    open_report(page, paths["report.html"], "#task=special")
    assert page.inner_text("#task .fate") == "LOST"
    assert f"{left_out:,} tasks that were simply DONE are not in this page" in page.inner_text("#one")


def test_thousands_of_tasks_with_random_ids_take_less_than_40_bytes_each() -> None:
    """This keeps the page of a run with 100,000 tasks below 5 MB."""
    events = many(5_000, digits=32)
    packed, left_out = pack(events, judge(events))
    assert left_out == 0
    assert len(packed) < 5_000 * 40


# Distributions ------------------------------------------------------------------------------------------------------


def test_every_value_is_in_one_bar_and_the_bars_are_whole_decades() -> None:
    bars = histogram([0.0, 0.1, 1.0, 9.9, 10.0, 250.0, 1000.0])
    assert bars is not None
    assert sum(bar.tasks for bar in bars.bars) == 7
    assert (bars.low_ms, bars.high_ms) == (0.1, 1000.0)
    assert max(bar.height for bar in bars.bars) == 1
    assert (bars.place(0.1), bars.place(10.0), bars.place(5_000.0)) == (0.0, 0.5, 1.0)
    assert histogram([]) is None
    assert histogram([5.0]) is not None


# EXCUSED, situations, the matrix ----------------------------------------------------------------------------------


def test_junit_shows_excused_losses_as_neither_passed_nor_failed(tmp_path: Path, excused: Result) -> None:
    reported(tmp_path, an_excused_run())
    suite = next(iter(JUnitXml.fromfile(str(tmp_path / "junit.xml"))))
    assert (suite.failures, suite.errors, suite.skipped) == (0, 0, 2 + len(NOT_TESTED))
    (skipped,) = next(case for case in suite if case.name == "verdict").result
    assert skipped.message == excused.because
    assert "gone: fault 1 (server-sigkill). Promised at" in skipped.text


def test_the_console_explains_each_excused_loss(excused: Result) -> None:
    text = text_of(excused)
    assert "EXCUSED" in text.splitlines()[0]
    assert "2 promised tasks were lost as the configured durability allows (EXCUSED)" in text
    assert "PASS" not in text
    assert "gone          fault 1 (server-sigkill): Promised at" in text


def test_the_console_says_which_situations_were_met() -> None:
    assert "killed-holding 1" in text_of(judge(a_run_with_everything().events))
    assert "none of the situations" in text_of(judge(an_excused_run().events))


def test_the_page_explains_excused_losses_and_shows_the_matrix_and_the_situations(tmp_path: Path, page: Page) -> None:
    _, paths = reported(tmp_path, an_excused_run())
    page.goto(paths["report.html"].as_uri())
    assert page.locator("#verdict").inner_text() == "EXCUSED"
    unfold(page)
    assert page.locator("#excuses tbody tr").count() == 2
    assert "takes everything" in page.locator("#excuses").inner_text()
    row = page.locator("#matrix tbody tr").inner_text().split()
    assert row[:2] == ["server-sigkill", "1"]
    assert row[2:] == ["0", "0", "2", "0", "0", "0", "1"]
    assert page.locator("#situations tbody tr").count() == len(SITUATIONS)
    assert page.title() != "owned"


def test_console_and_junit_name_what_interrupted_which_task(tmp_path: Path) -> None:
    lost_with_a_story(tmp_path)
    result = read(tmp_path)
    console = text_of(result)
    assert [f"lost-{number} LOST" in console for number in (1, 2, 3, 4)] == [True, True, True, False]
    assert "fault 3 (worker-sigkill) interrupted it" in console
    suite = next(iter(JUnitXml.fromfile(str(tmp_path / "junit.xml"))))
    (failure,) = next(case for case in suite if case.name == "verdict").result
    assert "lost-4 LOST:" in failure.text
    assert "fault 4 (worker-sigkill) interrupted it" in failure.text


def test_the_result_keeps_cause_and_stories_for_programs(tmp_path: Path) -> None:
    lost_with_a_story(tmp_path)
    stored = json.loads((tmp_path / "result.json").read_text())
    assert stored["cause"][0] == "4 tasks were lost, interrupted in their bodies."
    assert stored["stories"][0]["task"] == "lost-1"
