"""The tables of accounts and files, as the migrations make them."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Table,
    select,
    text,
)
from tests.schema.application import Application

from amphibase.errors import (
    Conflict,
    ForeignKeyViolation,
    InvalidValue,
)
from amphibase.models import utc_now
from amphibase.schema.tables import Tables, tables


@pytest.fixture
def overrides() -> dict[str, Any]:
    """Accounts and files are in the same database: all chains of revisions run."""
    return {}


async def test_migrations_make_exactly_what_the_tables_say(application: Application) -> None:
    """Columns, types, defaults, constraints and indexes are the same as those of `tables()`."""
    await application.upgrade()
    async with application.database.read() as connection:
        migrated = await connection.run_sync(catalogue)
    for chain in ("auth", "storage"):
        await application.downgrade(chain, "base")
    known = tables(application.database.dialect)
    async with application.database.write() as connection:
        await connection.run_sync(known.auth.create_all)
        await connection.run_sync(known.storage.create_all)
    async with application.database.read() as connection:
        assert migrated == await connection.run_sync(catalogue)


def catalogue(connection: Connection) -> list[Any]:
    """Everything that the engine's own catalogue says of the tables of accounts and files."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(
            text("SELECT type, name, sql FROM sqlite_master WHERE tbl_name NOT LIKE '%version'")
        )
        # The order of constraints inside a table has no meaning.
        return sorted(
            (kind, name, sorted(part.strip(" ,\t)") for part in (sql or "").splitlines()))
            for kind, name, sql in rows
            if name.startswith(("auth", "storage"))
        )
    items: list[Any] = []
    for statement in (
        "SELECT c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),"
        " a.attnotnull, a.attgenerated, pg_get_expr(d.adbin, d.adrelid)"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        " WHERE a.attnum > 0 AND c.relnamespace IN ('auth'::regnamespace, 'storage'::regnamespace)",
        "SELECT indexdef FROM pg_indexes WHERE schemaname IN ('auth', 'storage')",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace IN ('auth'::regnamespace, 'storage'::regnamespace)",
        "SELECT enumtypid::regtype::text, enumsortorder, enumlabel FROM pg_enum",
    ):
        rows = connection.execute(text(statement))
        items += sorted([str(tuple(row)) for row in rows if "version" not in str(row[0])])
    return items


@pytest.fixture
async def accounts(application: Application) -> Tables:
    """The tables, made."""
    await application.upgrade()
    return tables(application.database.dialect)


async def test_deleting_an_account_deletes_what_is_its_own(
    application: Application, accounts: Tables
) -> None:
    """Identities, sessions, refresh tokens, factors and links go with the account."""
    user, session, factor = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    now = utc_now()
    rows: list[tuple[Table, dict[str, Any]]] = [
        (accounts.users, {"id": user, "email": "ann@example.com"}),
        (
            accounts.identities,
            {"user_id": user, "provider": "email", "provider_id": "1", "identity_data": {}},
        ),
        (accounts.sessions, {"id": session, "user_id": user, "aal": "aal1", "ip": "127.0.0.1"}),
        (accounts.refresh_tokens, {"session_id": session, "token": "t", "user_id": str(user)}),
        (
            accounts.mfa_amr_claims,
            {
                "session_id": session,
                "authentication_method": "otp",
                "created_at": now,
                "updated_at": now,
            },
        ),
        (
            accounts.mfa_factors,
            {
                "id": factor,
                "user_id": user,
                "factor_type": "totp",
                "status": "verified",
                "created_at": now,
                "updated_at": now,
            },
        ),
        (accounts.mfa_challenges, {"factor_id": factor, "created_at": now, "ip_address": "::1"}),
        (
            accounts.one_time_tokens,
            {
                "user_id": user,
                "token_type": "recovery_token",
                "token_hash": "h",
                "relates_to": "ann@example.com",
            },
        ),
    ]
    for table, values in rows:
        await application.add(table, **values)
    async with application.database.write() as connection:
        await connection.execute(accounts.users.delete())
    assert [await application.count(table) for table, _ in rows] == [0] * len(rows)


async def test_an_account_written_by_hand_can_sign_in(
    application: Application, accounts: Tables
) -> None:
    """What Supabase's Auth needs has a default: no instance, audience, role, empty tokens."""
    await application.add(accounts.users, email="ann@example.com")
    async with application.database.read() as connection:
        row = (await connection.execute(select(accounts.users))).one()
    assert row.instance_id == uuid.UUID(int=0)
    assert (row.aud, row.role) == ("authenticated", "authenticated")
    assert (row.confirmation_token, row.recovery_token, row.email_change_token_new) == ("", "", "")
    assert (row.is_sso_user, row.is_anonymous, row.confirmed_at) == (False, False, None)


async def test_an_address_is_unique_among_those_who_have_a_password(
    application: Application, accounts: Tables
) -> None:
    """Two accounts of single sign-on may share an address; the error names the column."""
    users = accounts.users
    await application.add(users, email="ann@example.com", recovery_token="a")
    with pytest.raises(Conflict) as conflict:
        await application.add(users, email="ann@example.com")
    assert conflict.value.columns == ("email",)
    for _ in range(2):
        await application.add(users, email="ann@example.com", is_sso_user=True)
    with pytest.raises(Conflict):
        await application.add(users, email="ben@example.com", recovery_token="a")


async def test_generated_columns_follow_their_sources(
    application: Application, accounts: Tables
) -> None:
    """`confirmed_at` is the earlier confirmation; an identity's `email` is in lower case."""
    early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    users = accounts.users
    user = uuid.uuid4()
    await application.add(users, id=user, phone_confirmed_at=late)
    await application.add(
        accounts.identities,
        user_id=user,
        provider="email",
        provider_id="1",
        identity_data={"email": "Ann@Example.com"},
    )
    async with application.database.write() as connection:
        assert (await connection.execute(select(users.c.confirmed_at))).scalar_one() == late
        await connection.execute(users.update().values(email_confirmed_at=early))
        assert (await connection.execute(select(users.c.confirmed_at))).scalar_one() == early
        email = (await connection.execute(select(accounts.identities.c.email))).scalar_one()
    assert email == "ann@example.com"


async def test_an_enum_takes_its_values_alone(application: Application, accounts: Tables) -> None:
    """The database itself rejects a value that the enum does not have."""
    table = accounts.sessions.fullname
    user = uuid.uuid4()
    await application.add(accounts.users, id=user)
    statement = f"INSERT INTO {table} (id, user_id, aal) VALUES (:id, :user, 'aal9')"
    key = user.hex if application.database.dialect == "sqlite" else user
    with pytest.raises(InvalidValue):
        async with application.database.write() as connection:
            await connection.execute(text(statement), {"id": key, "user": key})


async def test_files_are_unique_by_bucket_and_name(
    application: Application, accounts: Tables
) -> None:
    """A bucket has defaults and an object has one row; a bucket with objects stays."""
    await application.add(accounts.buckets, id="a", name="a", allowed_mime_types=["image/png"])
    await application.add(accounts.objects, bucket_id="a", name="x/y.png")
    with pytest.raises(Conflict):
        await application.add(accounts.objects, bucket_id="a", name="x/y.png")
    with pytest.raises(ForeignKeyViolation):
        async with application.database.write() as connection:
            await connection.execute(accounts.buckets.delete())
    async with application.database.read() as connection:
        buckets = select(accounts.buckets).where(accounts.buckets.c.id == "a")
        bucket = (await connection.execute(buckets)).one()
        stored = (await connection.execute(select(accounts.objects))).one()
    assert (bucket.type, bucket.public) == ("STANDARD", False)
    assert bucket.allowed_mime_types == ["image/png"]
    if application.database.dialect == "postgresql":
        assert stored.path_tokens == ["x", "y.png"]


async def test_accounts_are_found_by_an_index(application: Application, accounts: Tables) -> None:
    """Addresses, refresh tokens, sessions and links are looked up, never searched for."""
    postgres = application.database.dialect == "postgresql"
    no = "false" if postgres else "0"
    lookups = [
        f"{accounts.users.fullname} WHERE email = 'a' AND is_sso_user = {no}",
        f"{accounts.users.fullname} WHERE lower(email) = 'a'",
        f"{accounts.refresh_tokens.fullname} WHERE token = 'a'",
        f"{accounts.sessions.fullname} WHERE user_id = '{uuid.UUID(int=0)}'",
        f"{accounts.one_time_tokens.fullname} WHERE token_hash = 'a'",
        f"{accounts.objects.fullname} WHERE bucket_id = 'a' AND name = 'b'",
    ]
    async with application.database.write() as connection:
        if postgres:
            await connection.execute(text("SET LOCAL enable_seqscan = off"))
        for lookup in lookups:
            explain = "EXPLAIN" if postgres else "EXPLAIN QUERY PLAN"
            plan = str((await connection.execute(text(f"{explain} SELECT * FROM {lookup}"))).all())
            assert "Index" in plan or "USING INDEX" in plan, plan
            assert "Seq Scan" not in plan, plan
