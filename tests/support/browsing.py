"""A real browser, for the pages that people use."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="module", name="browser")
def browser() -> Iterator[Browser]:
    installed = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    path = next((found for found in installed if found), None)
    with sync_playwright() as playwright:
        path = path or playwright.chromium.executable_path
        if not Path(path).exists():
            (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium is installed")
        with playwright.chromium.launch(executable_path=path, args=["--no-sandbox"]) as launched:
            yield launched
