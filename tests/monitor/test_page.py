"""The monitor's page in a browser: problems, charts, dead letters and tasks. Actions are checked in Redis."""

import re
from collections.abc import Callable

import pytest
import redis
from playwright.sync_api import Browser, Page, expect
from support.browsing import browser as _  # noqa: F401 - the fixture `browser`
from support.processes.monitor_page import (  # noqa: F401 - three are fixtures
    PATIENCE_MS,
    SCRIPT,
    bury,
    empty_queue,
    monitor_url,
    note,
    opened_page,
    rows,
)
from support.processes.over_http import served
from support.queue_fixtures import Queue, entry, ids
from support.waiting import wait_until
from zeroloss.reference.queue.consuming.registry import Report
from zeroloss.system.servers import Server

WIDER = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).length"


def test_the_page_says_first_what_is_wrong(page: Page, queue: Queue, url: str) -> None:
    queue.push(entry("old", since=1))
    queue.client.set(queue.keys.paused, "1")
    page.goto(url)
    troubles = page.locator("#troubles li")
    expect(troubles).to_have_count(3, timeout=PATIENCE_MS)
    expect(troubles.first).to_contain_text("No worker is alive")
    expect(page.locator("#troubles")).to_contain_text("Claiming is paused")
    expect(page.locator("#troubles")).to_contain_text("Tasks wait too long")
    queue.consumer()
    queue.client.delete(queue.keys.paused, queue.keys.pending)
    expect(troubles).to_have_count(0, timeout=PATIENCE_MS)


def test_the_charts_show_what_workers_noted_before_the_page_was_opened(page: Page, queue: Queue, url: str) -> None:
    minute = int(queue.client.time()[0]) // 60
    for slot in (7, 8):  # not used by workers
        at_ms = (minute - 3) * 60_000 + (slot - 7) * 10_000
        point = f"{at_ms} {100 * slot} 50 1 0 0 0 0 700 0 - {at_ms - 60_000} - 0 0"
        queue.client.hset(queue.keys.series(minute - 3), str(slot), point)
    queue.consumer().renew(Report("", minute - 3, {"wait:5": 4}))
    queue.consumer().renew(Report("", minute, {"wait:5": 4}))
    page.goto(url)
    expect(page.locator("#chart-latency .legend")).to_contain_text("p50 3.5 ms", timeout=PATIENCE_MS)
    expect(page.locator("#chart-backlog path.line-1")).to_have_attribute("d", re.compile(r"^M[^M]+L[^L]+M"))
    expect(page.locator("#chart-backlog text").nth(2)).to_have_text("1,000")
    page.get_by_role("button", name="1 hour").click()
    expect(page.locator("#chart-rates")).to_contain_text("−60 min")


def test_consumers_are_shown_with_what_they_run_and_the_vanished_with_what_became_of_their_tasks(
    page: Page, queue: Queue, url: str
) -> None:
    about = '{"host":"box-1","version":"9.1","up_ms":5000,"running":[[7,"report",4000]]}'
    dead = queue.consumer("dead")
    dead.renew(Report('{"host":"box-2"}'))
    queue.enqueue(1)
    queue.claim(dead)
    queue.kill(dead)
    queue.consumer("alive").renew(Report(about))
    page.goto(url)
    row = page.locator("#consumers tbody tr")
    expect(row).to_contain_text("box-1", timeout=PATIENCE_MS)
    expect(row).to_contain_text(re.compile(r"9\.1.*report, \d"))
    expect(page.locator("#vanished tbody tr")).to_contain_text(
        re.compile("dead.*box-2.*ago.*1.*0"), timeout=PATIENCE_MS
    )


def test_dead_letters_are_sought_selected_and_requeued(page: Page, queue: Queue, url: str) -> None:
    bury(queue, "a", "b", "c")
    bury(queue, "d", reason="vanished", error="Its worker vanished.")
    page.goto(f"{url}/#letters")
    rows(page, 4)
    page.select_option("#seek-reason", "vanished")
    rows(page, 1)
    page.select_option("#seek-reason", "")
    rows(page, 4)
    page.fill("#seek-text", "valueerror")
    page.get_by_role("button", name="Search").click()
    rows(page, 3)
    for number in (0, 2):
        page.locator("#letter-table tbody input").nth(number).check()
    page.get_by_role("button", name="Requeue selected").click()
    note(page, "requeued: 2")
    rows(page, 1)
    assert ids(queue.pending()) == ["c", "a"]


def test_a_dead_letter_s_row_names_its_task_and_a_search_without_a_result_says_so(
    page: Page, queue: Queue, url: str
) -> None:
    bury(queue, "order-17")
    page.goto(f"{url}/#letters")
    rows(page, 1)
    expect(page.locator("#letter-table tbody tr")).to_contain_text("order-17")
    page.fill("#seek-text", "order-18")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#no-letters")).to_have_text("None found.", timeout=PATIENCE_MS)


def test_a_purge_asks_first_and_tells_of_what_was_gone_by_then(page: Page, queue: Queue, url: str) -> None:
    bury(queue, "a", "b")
    page.goto(f"{url}/#letters")
    rows(page, 2)
    page.locator("#select-all").check()
    page.get_by_role("button", name="Purge selected").click()
    page.locator("#confirm").get_by_role("button", name="Cancel").click()
    assert len(queue.dead()) == 2
    queue.dead_letters.requeue(queue.dead_letters.page()[0].id)  # another operator was faster
    page.get_by_role("button", name="Purge selected").click()
    page.locator("#confirm").get_by_role("button", name="Yes").click()
    note(page, "purged: 1, 1 were there no more")
    assert (len(queue.dead()), ids(queue.pending())) == (0, ["b"])


def test_all_dead_letters_of_a_reason_are_requeued(page: Page, queue: Queue, url: str) -> None:
    bury(queue, *(f"t{number}" for number in range(70)))
    bury(queue, "other", reason="vanished")
    page.goto(f"{url}/#letters")
    rows(page, 50)
    page.get_by_role("button", name="Show older").click()
    rows(page, 71)
    page.select_option("#seek-reason", "failed")
    rows(page, 50)
    page.get_by_role("button", name="Requeue all found").click()
    page.locator("#confirm").get_by_role("button", name="Yes").click()
    note(page, "requeued: 70")
    assert (len(queue.pending()), ids(queue.dead())) == (70, ["other"])


def test_one_dead_letter_is_shown_in_whole_as_text_whatever_it_is(page: Page, queue: Queue, url: str) -> None:
    bury(queue, "a", error=SCRIPT)
    page.goto(f"{url}/#letters")
    rows(page, 1)
    page.locator("#letter-table tbody tr").focus()
    page.keyboard.press("Enter")
    letter = page.locator("#letter")
    expect(letter.locator(".error")).to_have_text(SCRIPT, timeout=PATIENCE_MS)
    expect(letter.locator(".payload")).to_have_text(f'"{SCRIPT}"')
    expect(letter.locator(".traceback")).to_have_text("line of a")
    assert page.locator("img").count() == 0
    letter.get_by_role("button", name="Requeue").click()
    wait_until(lambda: ids(queue.pending()) == ["a"], message="it was not requeued")


def test_pending_delayed_and_held_tasks_can_be_looked_into(page: Page, queue: Queue, url: str) -> None:
    queue.push(*(entry(f"t{number}") for number in range(60)))
    queue.client.zadd(queue.keys.delayed, {entry("later"): 10**13})
    queue.consumer().claim(3)
    page.goto(f"{url}/#tasks")
    rows(page, 50, "task-table")
    page.get_by_role("button", name="Show more").click()
    rows(page, 57, "task-table")
    page.select_option("#place", "delayed?")
    rows(page, 1, "task-table")
    expect(page.locator("#task-table tbody")).to_contain_text("later")
    page.get_by_role("link", name="Overview").click()
    page.locator("#consumers tbody a").click()
    rows(page, 3, "task-table")


@pytest.mark.parametrize("tab", ["", "#letters", "#tasks"])
def test_the_page_is_no_wider_than_a_phone(browser: Browser, queue: Queue, url: str, tab: str) -> None:
    bury(queue, "a-name-that-is-as-long-as-those-of-real-tasks-may-well-be", error="x" * 300)
    queue.push(entry("a-name-that-is-as-long-as-those-of-real-tasks-may-well-be"))
    queue.consumer("vm-with-a-long-name-12345-0-0123abcd")
    with browser.new_page(viewport={"width": 360, "height": 700}) as phone:
        phone.goto(f"{url}/{tab}")
        expect(phone.locator("#pending")).to_have_text("1", timeout=PATIENCE_MS)
        wait_until(lambda: phone.evaluate("document.documentElement.scrollWidth") <= 360, message="it is wider")
        wait_until(lambda: phone.evaluate(WIDER) == 0, message="a table is to be scrolled sideways")


def test_dead_letters_that_were_read_are_not_shown_while_redis_is_down(
    page: Page, open_own_server: Callable[..., Server]
) -> None:
    server = open_own_server(appendfsync="always")
    with redis.Redis.from_url(server.url) as client:
        bury(Queue(client, server.url), "a", "b")
    with served("monitor", server.url) as monitor:
        page.goto(f"{monitor.url}/#letters")
        rows(page, 2)
        server.kill()
        expect(page.get_by_role("alert")).to_contain_text("Redis is down", timeout=PATIENCE_MS)
        rows(page, 0)
        server.start()
        rows(page, 2)


def test_the_page_does_not_say_that_redis_is_down_where_the_queue_alone_cannot_be_read(
    page: Page, queue: Queue, url: str
) -> None:
    problem = {"type": "about:blank", "detail": "The number of shards differs."}
    page.route("**/stats", lambda route: route.fulfill(status=503, json=problem))
    page.goto(url)
    for text in ("The queue cannot be read", "The number of shards differs."):
        expect(page.get_by_role("alert")).to_contain_text(text, timeout=PATIENCE_MS)


def test_the_page_of_several_shards_lists_the_tasks_of_the_chosen_one(page: Page, queue: Queue) -> None:
    last = queue.configured(namespace="{tasks-1}")
    last.push(entry("waiting"))
    with served("monitor", last.config.redis_url, shards=2) as monitor:
        page.goto(f"{monitor.url}#tasks")
        shards = page.get_by_label("Charts and lists of tasks")
        expect(shards.locator("option")).to_have_count(2, timeout=PATIENCE_MS)
        expect(page.locator("#tasks-note")).to_have_text("There is none.", timeout=PATIENCE_MS)
        shards.select_option("{tasks-1}")
        rows(page, 1, "task-table")
        expect(page.locator("#troubles")).to_contain_text("No worker is alive", timeout=PATIENCE_MS)
