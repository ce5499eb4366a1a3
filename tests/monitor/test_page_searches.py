"""The page's lists: they show, and an action takes, what was asked for, whatever is typed or arrives meanwhile."""

import re

import pytest
from playwright.sync_api import Page, Route, expect
from support.browsing import browser as _  # noqa: F401 - the fixture `browser`
from support.monitor_page import (  # noqa: F401 - three are fixtures
    PATIENCE_MS,
    bury,
    empty_queue,
    monitor_url,
    note,
    opened_page,
    rows,
)
from support.queue_fixtures import Queue, ids

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
