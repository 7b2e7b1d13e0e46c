"""Ends of a move with accounts, and the people in them."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import UUID

import bcrypt
import httpx
import pyotp
from argon2 import PasswordHasher
from pydantic import SecretStr
from sqlalchemy import insert, make_url, select
from sqlalchemy.engine import URL
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from amphibase.accounts.jwt.key import Key
from amphibase.accounts.jwt.key_ring import KeyRing
from amphibase.database.engine import Database
from amphibase.move.accounts.stage import AccountsStage
from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Endpoint, Role, SqlEndpoint, SupabaseEndpoint
from amphibase.move.journal import Journal
from amphibase.move.plan import AccountsPlan, EndPlan, MappingPlan, Plan, VerifyPlan
from amphibase.move.quarantine import Quarantine
from amphibase.move.stage import Kept, Outcome, Verification
from amphibase.schema.tables import tables
from amphibase.settings.application import load_settings
from amphibase.sql.backend import SqlBackend
from amphibase.testing.supabase import LocalSupabase

ANN, BOB, CAS, EVE = (UUID(int=number << 96 | 0x7 << 76 | 0x8 << 60) for number in range(1, 5))
PASSWORD = "the password of before"
SECRET = pyotp.random_base32()
THEN = datetime(2024, 2, 29, 12, 30, 15, 250_000, tzinfo=UTC)


def sql_end(role: Role, url: str, files: str = "") -> SqlEndpoint:
    database = Database(url).url
    return SqlEndpoint(role, database, files)


def project_end(
    role: Role, project: LocalSupabase, *, has_database: bool = False
) -> SupabaseEndpoint:
    database = make_url(project.db_url).set(drivername="postgresql+psycopg")
    return SupabaseEndpoint(
        role,
        project.url,
        SecretStr(project.service_role_key),
        SecretStr(project.jwt_secret),
        database if has_database else None,
    )


def database_of(end: Endpoint) -> URL:
    assert end.database is not None
    return end.database


async def add_people(url: URL | str) -> None:
    """Add people of every kind to a database with the tables of accounts."""
    database = Database(url)
    all_tables = tables(database.dialect)
    people: list[dict[str, Any]] = [
        {
            "id": ANN,
            "email": "ann@example.com",
            "encrypted_password": PasswordHasher(1, 8, 1).hash(PASSWORD),
            "email_confirmed_at": THEN,
            "last_sign_in_at": THEN + timedelta(days=1),
            "raw_user_meta_data": {"name": "Ann", "ratio": 0.1, "sub": str(ANN)},
            "raw_app_meta_data": {"provider": "email", "providers": ["email"], "role": "admin"},
        },
        {
            "id": BOB,
            "email": "bob@example.com",
            "encrypted_password": bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode(),
            "email_confirmed_at": THEN,
            "banned_until": datetime(2190, 1, 1, tzinfo=UTC),
        },
        {"id": CAS, "email": "cas@example.com", "phone": "4930123456", "phone_confirmed_at": THEN},
        {
            "id": EVE,
            "email": "eve@example.com",
            "encrypted_password": "5f4dcc3b5aa765d61d8327deb882cf99",
            "email_confirmed_at": THEN,
        },
    ]
    defaults = {
        "raw_user_meta_data": {},
        "raw_app_meta_data": {"provider": "email", "providers": ["email"]},
        "created_at": THEN,
        "updated_at": THEN,
    }
    identity = {"created_at": THEN, "updated_at": THEN, "last_sign_in_at": THEN}
    async with database.write() as connection:
        for person in people:
            await connection.execute(insert(all_tables.users).values({**defaults, **person}))
            id, email = person["id"], person["email"]
            await connection.execute(
                insert(all_tables.identities).values(
                    id=UUID(int=id.int + 1),
                    provider="email",
                    provider_id=str(id),
                    user_id=id,
                    identity_data={"sub": str(id), "email": email, "email_verified": True},
                    **identity,
                )
            )
        await connection.execute(
            insert(all_tables.identities).values(
                id=UUID(int=ANN.int + 2),
                provider="github",
                provider_id="4711",
                user_id=ANN,
                identity_data={"sub": "4711", "email": "ann@example.com"},
                **identity,
            )
        )
        await connection.execute(
            insert(all_tables.mfa_factors).values(
                id=UUID(int=ANN.int + 3),
                user_id=ANN,
                friendly_name="phone",
                factor_type="totp",
                status="verified",
                secret=SECRET,
                created_at=THEN,
                updated_at=THEN,
            )
        )
    await database.close()


async def rows_of(url: URL | str, table: str, *columns: str) -> list[tuple[Any, ...]]:
    """Read columns of a table of accounts, by a way of its own, in order."""
    database = Database(url)
    found = getattr(tables(database.dialect), table)
    async with database.read() as connection:
        rows = await connection.execute(select(*(found.c[name] for name in columns)))
        read = sorted((tuple(row) for row in rows), key=lambda row: json.dumps(row, default=str))
    await database.close()
    return read


@asynccontextmanager
async def moving(
    source: Endpoint,
    target: Endpoint,
    folder: Path,
    *,
    probe: bool = False,
    overwrite: bool = False,
    mappings: Mapping[str, MappingPlan] = MappingProxyType({}),
    **options: Any,
) -> AsyncIterator[AccountsStage]:
    """A stage of accounts with a journal in that folder."""
    plan = Plan(
        mappings=dict(mappings),
        name="test",
        source=EndPlan(address=source.address),
        target=EndPlan(address=target.address),
        accounts=AccountsPlan(**options),
        verify=VerifyPlan(probe_account=probe),
    )
    path = folder / "plan.toml"
    with Journal(path) as journal:
        context = MoveContext(plan, source, target, journal, Quarantine(path), overwrite=overwrite)
        stage = AccountsStage(context)
        try:
            yield stage
        finally:
            await stage.close()


async def moved(source: Endpoint, target: Endpoint, folder: Path, **options: Any) -> Verification:
    """Move all accounts, and compare."""
    async with moving(source, target, folder, **options) as stage:
        failed = [check for check in await stage.check() if check.outcome is Outcome.FAIL]
        assert failed == []
        await stage.run()
        assert await stage.reconcile() == 0
        return await stage.verify()


async def undone(source: Endpoint, target: Endpoint, folder: Path, **options: Any) -> list[Kept]:
    """Take a move back."""
    async with moving(source, target, folder, **options) as stage:
        return [kept async for kept in stage.undo()]


@asynccontextmanager
async def sql_accounts(url: URL | str) -> AsyncIterator[SqlBackend]:
    """The SQL backend on a database."""
    text = url if isinstance(url, str) else url.render_as_string(hide_password=False)
    backend = SqlBackend(load_settings(database_url=text), KeyRing([Key.generate()]))
    try:
        yield backend
    finally:
        await backend.close()


@asynccontextmanager
async def official_client(project: LocalSupabase) -> AsyncIterator[AsyncClient]:
    """supabase-py, as an application has it."""
    async with httpx.AsyncClient(timeout=30) as http:
        options = AsyncClientOptions(auto_refresh_token=False, httpx_client=http)
        yield await acreate_client(project.url, project.anon_key, options)
