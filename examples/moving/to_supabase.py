"""Moves an application with 1,000 users from SQLite to a local Supabase, and back.

    python examples/moving/to_supabase.py

In between a user signs in to the project with the password of before, by Supabase's own client.
"""

import argparse
import asyncio
import hashlib
import random
import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

from app import Note
from argon2 import PasswordHasher
from supabase import create_client

from amphibase import SERVICE, Backend, Settings, User, load_settings, open_backend
from commands import amphibase, local_supabase

PASSWORDS = ("correct horse battery", "staple of the day", "pässwörd of somebody")
USERS_WITH_A_FILE = 10
"""One in so many."""


def main() -> None:
    """Create the application, move it there and back, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1000)
    users = parser.parse_args().users
    with tempfile.TemporaryDirectory(prefix="moving-") as name:
        folder = Path(name)
        before, after = folder / "before", folder / "after"
        before.mkdir()
        after.mkdir()
        asyncio.run(create_application(before, users))
        asyncio.run(create_tables(after))
        with local_supabase(folder) as project:
            move(
                folder, "there", sql(before), "supabase", SOURCE_FILES_URL=files(before), **project
            )
            sign_in(project, f"user{users - 1}@example.com", PASSWORDS[(users - 1) % 3])
            move(folder, "back", "supabase", sql(after), TARGET_FILES_URL=files(after), **project)
        here, there = asyncio.run(contents(before)), asyncio.run(contents(after))
        for kind, held in here.items():
            assert there[kind] == held, f"the {kind} differ"
            print(f"{len(held)} {kind}: equal")


def move(folder: Path, name: str, source: str, target: str, **environment: str) -> None:
    """Plan a move, check the plan and run it."""
    plan = f"{name}.toml"
    amphibase(folder, "move", "plan", source, target, "-o", plan, **environment)
    print(amphibase(folder, "move", "check", plan, **environment))
    amphibase(folder, "move", "run", plan, "--freeze", **environment)


def sign_in(project: dict[str, str], email: str, password: str) -> None:
    """Sign in to the project with the password of before, and read a row as that user."""
    client = create_client(project["SUPABASE_URL"], project["SUPABASE_ANON_KEY"])
    response = client.auth.sign_in_with_password({"email": email, "password": password})
    notes = client.table("notes").select("title").execute().data
    assert response.user is not None
    print(f"{response.user.email} has signed in, and has {len(notes)} notes")
    client.auth.sign_out()


def settings_of(folder: Path) -> Settings:
    """Return the settings of the application on SQLite, with everything in one folder."""
    return load_settings(backend="sql", database_url=f"sqlite:///{folder}/app.db", data_dir=folder)


def sql(folder: Path) -> str:
    """Return the address of the application's database."""
    return f"sql:sqlite:///{folder}/app.db"


def files(folder: Path) -> str:
    """Return where the bytes of the application's files are."""
    return f"file://{folder}/files"


async def create_tables(folder: Path) -> None:
    """Create an application without a row."""
    async with open_backend(settings_of(folder)):  # which in development creates its tables
        pass


async def create_application(folder: Path, users: int) -> None:
    """Create users with notes, and some with a file."""
    # A thousand hashes would take a minute: these are real ones, but few.
    hashes = [PasswordHasher().hash(password) for password in PASSWORDS]
    async with open_backend(settings_of(folder)) as backend:
        await backend.files.create_bucket("pictures", public=True)
        for number in range(users):
            await add_user(backend, number, hashes[number % len(hashes)])


async def add_user(backend: Backend, number: int, password_hash: str) -> None:
    """Add a user with two notes, and perhaps a file."""
    email, name = f"user{number}@example.com", f"User {number}"
    account = await backend.accounts.create(
        email, password_hash=password_hash, user_metadata={"name": name}
    )
    profiles, notes = (backend.repository(model, SERVICE) for model in (User, Note))
    await profiles.add(User(id=account.id, email=email, name=name))
    for stars in (1, 2):
        await notes.add(Note(title=f"Of {number}", stars=stars, owner_id=account.id))
    if number % USERS_WITH_A_FILE == 0:
        path = f"{account.id}/me.png"
        await backend.files.put(
            SERVICE, "pictures", path, picture(number), content_type="image/png"
        )


async def picture(number: int) -> AsyncIterator[bytes]:
    """Yield the bytes of a user's picture."""
    yield random.Random(number).randbytes(2_000 + number)


async def contents(folder: Path) -> dict[str, list[Any]]:
    """Return all that the application holds, and of each file a hash."""
    queries = {
        "accounts": "SELECT id, email, encrypted_password, raw_user_meta_data FROM auth_users",
        "users": "SELECT id, email, name, is_active, created_at FROM users",
        "notes": "SELECT * FROM notes",
    }
    with closing(sqlite3.connect(folder / "app.db")) as database:
        held = {kind: sorted(database.execute(query)) for kind, query in queries.items()}
    async with open_backend(settings_of(folder)) as backend:
        held["files"] = [entry async for entry in hashed_files(backend)]
    return held


async def hashed_files(backend: Backend) -> AsyncIterator[tuple[str, str, str]]:
    """Yield path, type and hash of each file."""
    cursor = None
    while True:
        page = await backend.files.list(SERVICE, "pictures", cursor=cursor)
        for file in page.items:
            opened = await backend.files.open(SERVICE, "pictures", file.path)
            digest = hashlib.sha256()
            async for chunk in opened.chunks:
                digest.update(chunk)
            yield file.path, file.content_type, digest.hexdigest()
        cursor = page.next_cursor
        if cursor is None:
            return


if __name__ == "__main__":
    main()
