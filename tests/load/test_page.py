"""Locust's own page, in a browser: readable options, and a load that uses the values typed there."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from playwright.sync_api import Browser, Page
from support.browsing import browser as _browser  # noqa: F401 - the fixture `browser`
from support.processes.load_system import ROOT
from support.processes.load_system import own_system as _  # noqa: F401 - the fixture `system`
from support.waiting import wait_until
from zeroloss.loadtests.system import System

WORD_JOINER = "\u2060"


@pytest.fixture
def locust(system: System, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """Locust with its page: the process, the page's address, and the log."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "locust", "--config", "loadtests/profiles/smoke.conf", "--host", system.url]
    command += ["--web-host", "127.0.0.1", "--web-port", port, "--ledger", str(system.ledger)]
    command += ["--csv", str(tmp_path / "load"), "--html", str(tmp_path / "load.html"), "--junit", ""]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: "Starting web interface" in (tmp_path / "log").read_text(), 30)
        wait_until(lambda: listens(int(port)), 30)
        yield process, f"http://127.0.0.1:{port}/", tmp_path / "log"
    finally:
        process.kill()
        process.wait(30)


def listens(port: int) -> bool:
    """Return whether the port accepts connections. Locust logs the start of its page too early."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def open_options(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_text("Custom parameters").click()
    page.locator("label").filter(has_text="atch").first.wait_for()


def test_an_option_in_locust_s_page_says_in_words_and_units_what_it_is(
    locust: tuple[subprocess.Popen[bytes], str, Path], browser: Browser
) -> None:
    with browser.new_page() as page:
        open_options(page, locust[1])
        labels = {label.replace(WORD_JOINER, "") for label in page.locator("label").all_inner_texts()}
    assert "P95 of requests, ms (at most)" in labels
    # The page sorts its options, so each label must be clear on its own.
    assert "P95 of enqueue to effect, high priority, ms (at most)" in labels
    assert "P99 of requests, ms (at most)" in labels
    assert "A request refused with 429 is not a failure (the queue is meant to be full)" in labels
    assert not [label for label in labels if label.startswith(("Slo", "Junit", "Record", "System"))]


def test_every_option_of_locust_s_page_reaches_the_load_and_a_threshold_typed_there_is_checked(
    locust: tuple[subprocess.Popen[bytes], str, Path], browser: Browser
) -> None:
    process, url, log = locust
    with browser.new_page() as page:
        open_options(page, url)
        page.locator("label").filter(has_text="P9").first.wait_for()
        page.get_by_label(f"P9{WORD_JOINER}5 of requests, ms").fill("0.01")
        known: list[str] = page.evaluate("Object.keys(window.templateArgs.extra_options)")
        with page.expect_request("**/swarm") as started:
            page.get_by_role("button", name="Start").click()
        sent: dict[str, Any] = parse_qs(started.value.post_data or "", keep_blank_values=True)
        assert set(known) - set(sent) == set()
        wait_until(lambda: page.request.get(f"{url}stats/requests").json()["stats"][-1]["num_requests"] > 20, 30)
    process.terminate()
    assert process.wait(60) == 3, log.read_text()
    assert "SLO broken: p95 of requests: " in log.read_text()
    assert "at most 0.01 ms allowed." in log.read_text()
