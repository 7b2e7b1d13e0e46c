"""The page of `examples/board` shows in a browser what others write."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from tests.conftest import SECRET
from tests.serving import serving

if TYPE_CHECKING:
    from playwright.async_api import Page

BOARD = Path(__file__).parents[2] / "examples" / "board"
BOB = {"email": "bob@example.com", "password": "correct horse battery"}


async def test_a_page_shows_what_others_write_who_is_there_and_what_it_missed_while_offline(
    page: "Page", tmp_path: Path
) -> None:
    for name in ("main.py", "index.html"):
        shutil.copy(BOARD / name, tmp_path)
    environment = {"SECRET_KEY": SECRET, "DATA_DIR": str(tmp_path / "data"), "RATE_LIMITS": "off"}
    with serving(tmp_path, environment, "main:app") as url:
        async with httpx.AsyncClient(base_url=url) as bob:
            token = (await bob.post("/auth/sign-up", json=BOB)).json()["access_token"]
            bob.headers["Authorization"] = f"Bearer {token}"
            await bob.post("/notes", json={"text": "before"})
            await page.goto(url)
            await page.get_by_text("before").wait_for()
            await page.get_by_text("1 here").wait_for()
            async with bob.stream("GET", "/presence"):
                await page.get_by_text("2 here").wait_for()
            await page.get_by_text("1 here").wait_for()

            tea = (await bob.post("/notes", json={"text": "bob's tea"})).json()
            await page.get_by_text("bob's tea").wait_for()
            await bob.patch(f"/notes/{tea['id']}", json={"text": "bob's cake"})
            await page.get_by_text("bob's cake").wait_for()

            await page.get_by_placeholder("you@example.com").fill("ann@example.com")
            await page.get_by_placeholder("a password").fill("correct horse battery")
            await page.get_by_text("Sign in or up").click()
            await page.get_by_placeholder("a note").fill("<b>ann's</b>")
            await page.get_by_text("Add").click()
            await page.get_by_text("<b>ann's</b>").wait_for()

            await page.context.set_offline(True)
            await bob.delete(f"/notes/{tea['id']}")
            await bob.post("/notes", json={"text": "missed"})
            await page.context.set_offline(False)
            await page.get_by_text("missed").wait_for()
            assert await page.get_by_text("bob's cake").count() == 0
            assert await page.locator("#notes li").count() == 3
