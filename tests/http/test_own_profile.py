"""A profile class of the application's own; in a process of its own, since it adds a column."""

import subprocess
import sys

SCRIPT = """
import asyncio, sys
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column
from amphibase import Amphibase, User, load_settings
from amphibase.testing.client import open_client

class Member(User):
    company: Mapped[str] = mapped_column(default="ACME", server_default="ACME")

async def main():
    settings = load_settings(database_url=sys.argv[1], secret_key="x" * 32)
    app = Amphibase(settings, user=Member).mount(FastAPI())
    async with open_client(app) as client:
        ann = await client.as_user("ann@example.com")
        assert isinstance(ann.user, Member)
        print((await ann.get("/users/me")).json()["company"])

asyncio.run(main())
"""


def test_is_stored_and_answered(database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, database_url], capture_output=True, text=True, check=False
    )
    assert done.stdout == "ACME\n", done.stderr
