"""The monitor's page in a browser, for the tests of it: fixtures, dead letters, and what the page shows of them."""

from collections.abc import Iterator

import pytest
import redis
from playwright.sync_api import Browser, Page, expect
from zeroloss.system.servers import Server

from support.processes.over_http import served
from support.queue_fixtures import Queue, entry

PATIENCE_MS = 15_000
SCRIPT = "<img src=x onerror=alert(1)>"


@pytest.fixture(name="page")
def opened_page(browser: Browser) -> Iterator[Page]:
    """A page; afterwards, assert that no content was blocked and no script failed."""
    with browser.new_page() as opened:
        errors: list[str] = []
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.on("console", lambda message: errors.append(message.text) if "Security Policy" in message.text else None)
        yield opened
        assert errors == []


@pytest.fixture(scope="module", name="url")
def monitor_url(embedded: Server) -> Iterator[str]:
    """One monitor for all tests of the module: starting one takes longer than most tests."""
    with served("monitor", embedded.url, lease_ms=60_000) as monitor:
        yield monitor.url


@pytest.fixture(name="queue")
def empty_queue(embedded: Server) -> Iterator[Queue]:
    """An empty queue on one kind of server: the page does not depend on the kind."""
    with redis.Redis.from_url(embedded.url) as client:
        client.flushall()
        made = Queue(client, embedded.url)
        yield made
        made.own_client.close()


def bury(queue: Queue, *names: str, reason: str = "failed", error: str = "ValueError: no") -> None:
    for name in names:
        fields = {"reason": reason, "error": error, "traceback": f"line of {name}", "consumer": "w1"}
        queue.client.xadd(queue.keys.dead_letter, {"entry": entry(name, f'"{SCRIPT}"', attempt=2), **fields})


def rows(page: Page, count: int, table: str = "letter-table") -> None:
    expect(page.locator(f"#{table} tbody tr")).to_have_count(count, timeout=PATIENCE_MS)


def note(page: Page, text: str) -> None:
    expect(page.locator("#letters-note")).to_contain_text(text, timeout=PATIENCE_MS)
