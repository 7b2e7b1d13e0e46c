"""A real browser for tests of what a page does: the machine's Chromium, driven by Playwright."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # few test processes open a browser
    from playwright.async_api import Browser

EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")


@asynccontextmanager
async def open_browser() -> "AsyncIterator[Browser]":
    """Open Chromium for the block; the test is skipped where it is not installed."""
    from playwright.async_api import async_playwright

    executable = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if executable is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable)
        yield browser
        await browser.close()
