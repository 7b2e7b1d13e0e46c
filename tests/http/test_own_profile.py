"""A profile class of the application's own; in a process of its own, since it adds a column."""

import subprocess
import sys

SCRIPT = """
import asyncio, sys
from datetime import date
from fastapi import FastAPI
from sqlalchemy.orm import Mapped, mapped_column
from amphibase.access import service
from amphibase import Amphibase, User, load_settings
from amphibase.testing.client import open_client
from amphibase.testing.emails import SentEmails

class Member(User):
    company: Mapped[str] = mapped_column(default="ACME", server_default="ACME")
    born: Mapped[date | None]
    rating: Mapped[int] = mapped_column(default=0, info={"read": service})

async def main():
    settings = load_settings(database_url=sys.argv[1], secret_key="x" * 32)
    app = Amphibase(settings, user=Member).mount(FastAPI())
    async with open_client(app) as client:
        ann = await client.as_user("ann@example.com")
        assert isinstance(ann.user, Member)
        print((await ann.get("/users/me")).json()["company"])
        new = {"email": "bob@example.com", "password": "correct horse battery"}
        own = {"company": "Bob's", "born": "1990-02-03"}
        signed_up = await client.post("/auth/sign-up", json=new | own)
        assert signed_up.status_code == 201, signed_up.text
        assert own.items() <= signed_up.json()["user"].items()
        for wrong in ({"born": "never"}, {"rating": 5}, {"is_active": False}):
            rejected = await client.post("/auth/sign-up", json=new | wrong)
            assert rejected.status_code == 422, rejected.text
            assert (await ann.patch("/users/me", json=wrong)).status_code == 422
        state = app.state.amphibase.state
        await state.users.invite("cyd@example.com")
        token = await SentEmails(settings.data_dir / "outbox").next_token_to("cyd@example.com")
        accepted = await client.post(
            "/auth/invitations/accept",
            json={"token": token, "password": new["password"], "born": "1999-09-09"},
        )
        assert accepted.json()["user"]["born"] == "1999-09-09", accepted.text
        changed = await ann.patch("/users/me", json={"born": "2000-01-01"})
        assert changed.json()["born"] == "2000-01-01"
        assert changed.json()["company"] == "ACME"
        cleared = await ann.patch("/users/me", json={"born": None, "name": "Ann"})
        assert (cleared.json()["born"], cleared.json()["name"]) == (None, "Ann")

asyncio.run(main())
"""


def test_is_stored_and_in_the_response(database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, database_url], capture_output=True, text=True, check=False
    )
    assert done.stdout == "ACME\n", done.stderr
