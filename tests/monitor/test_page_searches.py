"""The page's lists: they show, and an action takes, what was asked for, whatever is typed or arrives meanwhile."""

import re

import pytest
from playwright.sync_api import Page, Route, expect
from support.browsing import browser as _  # noqa: F401 - the fixture `browser`
from support.processes.monitor_page import (  # noqa: F401 - three are fixtures
    PATIENCE_MS,
    bury,
    empty_queue,
    monitor_url,
    note,
    opened_page,
    rows,
)
from support.processes.over_http import served
from support.queue_fixtures import Queue, entry, ids

SETTLED_MS = 300  # in which the page has taken an answer


def search(page: Page, text: str) -> None:
    page.fill("#seek-text", text)
    page.get_by_role("button", name="Search").click()


def hold(page: Page, path: str) -> list[Route]:
    """Hold back the requests whose URL contains this pattern, and return them."""
    held: list[Route] = []
    page.route(re.compile(path), lambda route: held.append(route))
    return held


def let_go(page: Page, held: list[Route]) -> None:
    for route in held:
        with page.expect_response(lambda response, route=route: response.request == route.request):  # type: ignore[misc]
            route.continue_()
    page.wait_for_timeout(SETTLED_MS)


@pytest.mark.parametrize("verb", ["Purge", "Requeue"])
def test_an_action_on_all_found_spares_dead_letters_that_the_shown_search_did_not_find(
    page: Page, queue: Queue, url: str, verb: str
) -> None:
    bury(queue, "foo-1", "bar", "foo-2")
    page.goto(f"{url}/#letters")
    rows(page, 3)
    search(page, "foo")
    rows(page, 2)
    bury(queue, "foo-later")
    page.fill("#seek-text", "")
    page.get_by_role("button", name=f"{verb} all found").click()
    page.locator("#confirm").get_by_role("button", name="Yes").click()
    note(page, f"{verb.lower()}d: 2")
    rows(page, 1)
    expect(page.locator("#letter-table tbody tr")).to_contain_text("foo-later")
    assert sorted(ids(queue.dead())) == ["bar", "foo-later"]


def test_older_dead_letters_are_those_of_the_search_that_is_shown(page: Page, queue: Queue, url: str) -> None:
    bury(queue, *(f"{word}-{number}" for number in range(60) for word in ("foo", "bar")))
    page.goto(f"{url}/#letters")
    rows(page, 50)
    search(page, "foo")
    expect(page.locator("#letter-table tbody tr").nth(1)).to_contain_text("foo-58", timeout=PATIENCE_MS)
    page.fill("#seek-text", "")
    page.get_by_role("button", name="Show older").click()
    rows(page, 60)


def test_a_search_without_an_answer_yet_leaves_nothing_to_act_on(page: Page, queue: Queue, url: str) -> None:
    bury(queue, *(f"foo-{number}" for number in range(60)))
    page.goto(f"{url}/#letters")
    purge, more = page.get_by_role("button", name="Purge all found"), page.locator("#more-letters")
    expect(more).to_be_visible(timeout=PATIENCE_MS)
    held = hold(page, "text=foo-7")
    search(page, "foo-7")
    expect(purge).to_be_disabled()
    expect(more).to_be_hidden()
    let_go(page, held)
    rows(page, 1)
    expect(purge).to_be_enabled()


def test_the_details_of_a_dead_letter_are_those_of_the_one_asked_for_last(page: Page, queue: Queue, url: str) -> None:
    bury(queue, "slow", "fast")
    slow = queue.dead_letters.page()[1].id
    page.goto(f"{url}/#letters")
    rows(page, 2)
    held = hold(page, f"letters/{slow}")
    page.locator("#letter-table tbody tr").nth(1).click()
    page.locator("#letter-table tbody tr").nth(0).click()
    traceback = page.locator("#letter .traceback")
    expect(traceback).to_have_text("line of fast", timeout=PATIENCE_MS)
    let_go(page, held)
    expect(traceback).to_have_text("line of fast")


def test_tasks_of_another_place_are_not_listed_where_their_answer_comes_late(
    page: Page, queue: Queue, url: str
) -> None:
    queue.client.zadd(queue.keys.delayed, {entry("later"): 10**13})
    queue.push(entry("waiting"))
    page.goto(f"{url}/#tasks")
    rows(page, 1, "task-table")
    held = hold(page, "tasks/delayed")
    page.select_option("#place", "delayed?")
    page.select_option("#place", "pending?priority=low")
    expect(page.locator("#tasks-note")).to_have_text("There is none.", timeout=PATIENCE_MS)
    let_go(page, held)
    rows(page, 0, "task-table")
    expect(page.locator("#tasks-note")).to_have_text("There is none.")


def test_more_tasks_of_another_place_are_not_offered_before_the_first(page: Page, queue: Queue, url: str) -> None:
    queue.push(*(entry(f"t{number}") for number in range(60)))
    page.goto(f"{url}/#tasks")
    rows(page, 50, "task-table")
    expect(page.locator("#more-tasks")).to_be_visible()
    held = hold(page, "tasks/delayed")
    page.select_option("#place", "delayed?")
    expect(page.locator("#more-tasks")).to_be_hidden()
    let_go(page, held)
    rows(page, 0, "task-table")


def test_tasks_that_were_asked_for_before_redis_went_away_are_not_listed_after_it(
    page: Page, queue: Queue, url: str
) -> None:
    queue.client.zadd(queue.keys.delayed, {entry("later"): 10**13})
    page.goto(f"{url}/#tasks")
    expect(page.locator("#tasks-note")).to_have_text("There is none.", timeout=PATIENCE_MS)
    held = hold(page, "tasks/delayed")
    page.select_option("#place", "delayed?")
    page.route(
        "**/stats", lambda route: route.fulfill(status=503, json={"type": "about:blank", "detail": "It is away."})
    )
    expect(page.get_by_role("alert")).to_contain_text("It is away.", timeout=PATIENCE_MS)
    let_go(page, held)
    rows(page, 0, "task-table")


def test_tasks_and_charts_of_another_shard_are_not_shown_where_their_answer_comes_late(
    page: Page, queue: Queue
) -> None:
    last = queue.configured(namespace="{tasks-1}")
    last.push(entry("waiting"))
    minute = int(queue.client.time()[0]) // 60 - 2
    queue.client.hset(last.keys.series(minute), "7", f"{minute * 60_000} 1 1 1 0 0 0 0 7 0 - {minute * 60_000} - 0 0")
    with served("monitor", last.config.redis_url, shards=2) as monitor:
        page.goto(f"{monitor.url}#tasks")
        shards = page.get_by_label("Charts and lists of tasks")
        expect(shards.locator("option")).to_have_count(2, timeout=PATIENCE_MS)
        held = hold(page, r"(tasks/pending|series).*tasks-1")
        shards.select_option("{tasks-1}")
        shards.select_option("{tasks-0}")
        expect(page.locator("#tasks-note")).to_have_text("There is none.", timeout=PATIENCE_MS)
        expect(page.locator("#series-note")).to_contain_text("Workers note what is shown here")
        let_go(page, held)
        assert page.locator("#task-table tbody tr").count() == 0
        assert "Workers note what is shown here" in (page.locator("#series-note").text_content() or "")
