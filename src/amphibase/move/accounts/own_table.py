"""A source's own table of users, which knows nothing of Amphibase, as accounts."""

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from uuid import UUID, uuid5

from amphibase.errors import ConfigurationError
from amphibase.move.accounts.base import RowPage
from amphibase.move.accounts.rows import FOREVER, AuthTable, Values
from amphibase.move.catalog import CatalogTable, TableName
from amphibase.move.context import MoveContext
from amphibase.move.mappings import mapped_id
from amphibase.move.plan import UserColumns
from amphibase.move.tables.base import Chunk, Selection, TableReader
from amphibase.move.tables.sides import open_tables
from amphibase.move.tables.types import postgres_type

IDS = "accounts ids"
"""Of a new id: the old one."""

UNKNOWN_TIME = "1970-01-01 00:00:00+00"
"""For accounts of which no column says when they were made."""

COLUMNS = {
    AuthTable.USERS: frozenset(
        {
            "id", "aud", "role", "email", "encrypted_password", "email_confirmed_at", "created_at",
            "updated_at", "banned_until", "raw_app_meta_data", "raw_user_meta_data", "is_sso_user",
            "is_anonymous",
        }
    ),
    AuthTable.IDENTITIES: frozenset(
        {"id", "provider", "provider_id", "user_id", "identity_data", "created_at", "updated_at"}
    ),
}  # fmt: skip
PROVIDERS = {"provider": "email", "providers": ["email"]}
USER, ADMIN = json.dumps(PROVIDERS), json.dumps({**PROVIDERS, "role": "admin"})
TRUE = ("t", "true", "1", "y", "yes")


class OwnTableAccounts:
    """Accounts made of the rows of one table: each has an address, a hash and one identity.

    An account that is not active is banned. Where no column says whether or when an address was
    confirmed, all of them were, since their owners have signed in with them.
    """

    finds_rows = True

    def __init__(self, context: MoveContext) -> None:
        plan = context.plan.accounts
        if plan is None or plan.table is None or plan.columns is None:
            raise ConfigurationError("accounts: a table of users needs its columns too")
        self._name = plan.table
        self._names: UserColumns = plan.columns
        self._context = context
        mapping = next(
            (each for each in context.plan.mappings.values() if each.source == plan.table), None
        )
        self._namespace = UUID(mapping.namespace) if mapping else None
        self._stack = AsyncExitStack()
        self._opened: tuple[TableReader, Selection] | None = None

    async def columns(self, table: AuthTable) -> frozenset[str]:
        return COLUMNS.get(table, frozenset())

    async def count(self, table: AuthTable) -> int:
        if table not in COLUMNS:
            return 0
        reader, selection = await self._open()
        return await reader.count(selection.table)

    async def read(
        self, table: AuthTable, columns: Collection[str], after: str | None = None
    ) -> AsyncIterator[RowPage]:
        reader, selection = await self._open()
        async for chunk in reader.read(selection, None if after is None else (after,)):
            yield RowPage(self._accounts(table, chunk), chunk.last[0])

    async def rows(
        self, table: AuthTable, columns: Collection[str], keys: Sequence[str]
    ) -> Mapping[str, Values]:
        reader, selection = await self._open()
        old = [(id,) for key in keys if (id := self._old_id(table, key)) is not None]
        found = await reader.rows(selection, old) if old else {}
        accounts = self._accounts(table, Chunk([*found.values()], ()))
        return {str(row["id"]): row for row in accounts}

    async def close(self) -> None:
        await self._stack.aclose()
        self._opened = None

    def _accounts(self, table: AuthTable, chunk: Chunk) -> list[Values]:
        people = [dict(zip(self._wanted(), row, strict=True)) for row in chunk.rows]
        accounts = [self._account(person) for person in people]
        rows = accounts if table is AuthTable.USERS else [_identity(each) for each in accounts]
        old = [person[self._names.id] for person in people]
        ids = {str(row["id"]): id for row, id in zip(rows, old, strict=True)}
        self._context.journal.put_all(f"{IDS} {table}", ids)
        return rows

    def _account(self, person: Values) -> Values:
        names = self._names
        created = _time(person.get(names.created_at or "")) or UNKNOWN_TIME
        confirmed = created
        if names.confirmed_at is not None:
            confirmed = _time(person[names.confirmed_at]) or ""
        elif not _is_true(person, names.is_confirmed, default=True):
            confirmed = ""
        active = _is_true(person, names.is_active, default=True)
        admin = _is_true(person, names.is_admin, default=False)
        return {
            "id": self._new_id(person[names.id] or ""),
            "aud": "authenticated",
            "role": "authenticated",
            "email": (person[names.email] or "").lower() or None,
            "encrypted_password": person[names.password_hash] if names.password_hash else None,
            "email_confirmed_at": confirmed or None,
            "created_at": created,
            "updated_at": created,
            "banned_until": None if active else FOREVER,
            "raw_app_meta_data": ADMIN if admin else USER,
            "raw_user_meta_data": "{}",
            "is_sso_user": "f",
            "is_anonymous": "f",
        }

    def _new_id(self, old: str) -> str:
        return mapped_id(self._namespace, old) if self._namespace else str(UUID(old))

    def _old_id(self, table: AuthTable, key: str) -> str | None:
        old: str | None = self._context.journal.get(f"{IDS} {table}", key)
        return old

    def _wanted(self) -> list[str]:
        names = self._names
        return list(dict.fromkeys(names.model_dump(exclude_none=True).values()))

    async def _open(self) -> tuple[TableReader, Selection]:
        if self._opened is None:
            context = self._context
            reader = await self._stack.enter_async_context(
                open_tables(context.source, context.plan.name)
            )
            catalog = await reader.catalog()
            schema, _, name = self._name.rpartition(".")
            table = catalog.table(TableName(schema or None, name))
            if table is None:
                raise ConfigurationError(f"accounts: the source has no table {self._name}")
            columns = tuple(self._wanted())
            types = tuple(self._type(table, name) for name in columns)
            self._opened = reader, Selection(table, columns, (self._names.id,), types)
        return self._opened

    def _type(self, table: CatalogTable, name: str) -> str:
        """Return the type whose text a column's values are to be."""
        names = self._names
        if name in (names.created_at, names.confirmed_at):
            return "timestamp with time zone"
        if name in (names.is_active, names.is_confirmed, names.is_admin):
            return "boolean"
        if name == names.id and not self._namespace:
            return "uuid"
        if name == names.id:
            declared = table.column(name).base_type
            return declared if table.name.schema else postgres_type(declared)
        return "text"


def _identity(account: Values) -> Values:
    id = str(account["id"])
    data = {
        "sub": id,
        "email": account["email"],
        "email_verified": account["email_confirmed_at"] is not None,
        "phone_verified": False,
    }
    return {
        "id": str(uuid5(UUID(id), "email")),
        "provider": "email",
        "provider_id": id,
        "user_id": id,
        "identity_data": json.dumps(data),
        "created_at": account["created_at"],
        "updated_at": account["updated_at"],
    }


def _is_true(person: Values, name: str | None, *, default: bool) -> bool:
    return default if name is None else str(person[name] or "").lower() in TRUE


def _time(text: str | None) -> str | None:
    """Return a time with its zone; one without is in UTC."""
    if not text:
        return None
    has_zone = "+" in text or "-" in text[10:]
    return text if has_zone or text.endswith("infinity") else f"{text}+00"
