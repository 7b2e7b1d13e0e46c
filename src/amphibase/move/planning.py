"""From what both ends have to a plan: what moves where, and what does not and why."""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from amphibase.database.url import database_address
from amphibase.errors import ConfigurationError
from amphibase.move.catalog import CatalogTable, Generated, TableName
from amphibase.move.endpoints import (
    Endpoint,
    Role,
    SqlEndpoint,
    SupabaseEndpoint,
    files_address,
    parse_endpoint,
)
from amphibase.move.inventory import OWN_SCHEMAS, QUEUES, Inventory, is_own, read_inventory
from amphibase.move.plan import (
    AccountsPlan,
    EndPlan,
    FilesPlan,
    MappingPlan,
    NotMoved,
    Plan,
    TablePlan,
    UserColumns,
)
from amphibase.move.plan_file import write_plan
from amphibase.move.tables.types import is_uuid
from amphibase.move.users_table import IS_ADMIN, find_users_table, profile_columns

INTEGERS = frozenset(("smallint", "integer", "bigint"))
PROFILES = "users"
AUTH_USERS = TableName("auth", "users")
HAS_POLICIES = frozenset(("auth", "realtime", "storage"))
"""Schemas of Supabase on whose tables people have policies of their own."""

NONE_IN_SQLITE = frozenset(
    ("aggregate", "foreign table", "function", "materialized view", "policy", "procedure")
)
"""Kinds of objects that Postgres alone has."""


@dataclass(slots=True)
class _Draft:
    """A plan that is being made.

    Args:
        taken: names of tables that the target has already.
    """

    taken: frozenset[str]
    tables: list[TablePlan] = field(default_factory=list)
    mappings: dict[str, MappingPlan] = field(default_factory=dict)
    not_moved: list[NotMoved] = field(default_factory=list)


async def plan_move(source: str, target: str, path: Path, *, db_url: str | None = None) -> Plan:
    """Compare both ends and write a plan.

    Args:
        source, target: addresses, as `sql:URL` or `supabase[:URL]`.
        path: of the plan's file, which does not exist yet.
        db_url: of the database of the end that is a Supabase project.

    Raises:
        ConfigurationError: an address or a variable is wrong, both ends are the same, or there is
            such a file.
        Unavailable: an end cannot be reached; says which.
    """
    ends = [
        parse_endpoint(text, role, database=db_url if text.startswith("supabase") else None)
        for text, role in ((source, Role.SOURCE), (target, Role.TARGET))
    ]
    if ends[0].address == ends[1].address:
        raise ConfigurationError(
            f"Both ends are {ends[0].address}: name another one, or set SOURCE_DATABASE_URL and "
            "TARGET_DATABASE_URL (SOURCE_SUPABASE_URL and TARGET_SUPABASE_URL for projects)"
        )
    own, other = [await read_inventory(end, path.stem) for end in ends]
    plan = make_plan(path.stem, own, other)
    write_plan(plan, path, schema_command(own.endpoint, other.endpoint))
    return plan


def make_plan(name: str, source: Inventory, target: Inventory) -> Plan:
    """Write a plan: everything moves that has a counterpart of its name on the target.

    Args:
        name: of the plan.
    """
    draft = _Draft(frozenset(table.name.name for table in target.catalog.tables))
    profiles = next((t for t in target.tables() if _place(t.name) == (None, PROFILES)), None)
    accounts = _accounts(source, target, draft)
    skipped = {accounts.table} if accounts and accounts.table else set()
    if profiles is not None:
        _plan_profiles(source, accounts, profiles, draft)
    pairs = list(_pairs(source, target, skipped, draft))
    for own, other in pairs:
        _map_ids(own, other, draft)
    for own, other in _in_order(pairs):
        _plan_table(own, other, draft)
    sequences = tuple(_sequences(source, target, draft))
    files = _files(source, target, draft)
    draft.not_moved += _others(source, target.endpoint)
    return Plan(
        name=name,
        source=_end(source.endpoint),
        target=_end(target.endpoint),
        accounts=accounts,
        files=files,
        tables=tuple(draft.tables),
        mappings=draft.mappings,
        sequences=sequences,
        not_moved=tuple(draft.not_moved),
    )


def schema_command(source: Endpoint, target: Endpoint) -> str | None:
    """Return the command that writes the schema objects of a Postgres, which do not move.

    Returns:
        None where the source is no Postgres that can be reached, or the target is SQLite, which
        does not read it.
    """
    url = source.database
    if url is None or url.get_backend_name() != "postgresql" or _is_sqlite(target):
        return None
    own = "|".join(sorted(OWN_SCHEMAS))
    return f"pg_dump --schema-only --no-owner -N '{own}' '{database_address(url)}'"


def _is_sqlite(endpoint: Endpoint) -> bool:
    return endpoint.database is not None and endpoint.database.get_backend_name() == "sqlite"


def _end(endpoint: Endpoint) -> EndPlan:
    if isinstance(endpoint, SqlEndpoint):
        return EndPlan(address=endpoint.address, files=files_address(endpoint.files))
    direct = endpoint.database
    return EndPlan(
        address=endpoint.address, database=None if direct is None else database_address(direct)
    )


def _place(name: TableName) -> tuple[str | None, str]:
    """Return the name by which tables of both sides are matched; SQLite has no `public`."""
    return (None if name.schema == "public" else name.schema, name.name)


def _pairs(
    source: Inventory, target: Inventory, skipped: set[str], draft: _Draft
) -> Iterator[tuple[CatalogTable, CatalogTable]]:
    others = {_place(table.name): table for table in target.tables()}
    over_api = _is_over_api(source.endpoint) or _is_over_api(target.endpoint)
    for table in source.tables():
        if str(table.name) in skipped:
            continue
        other = others.get(_place(table.name))
        if other is None:
            reason = "the target has no such table; its own migrations create it, then plan anew"
            draft.not_moved.append(NotMoved(what=f"table {table.name}", reason=reason))
        elif over_api and not table.key:
            reason = "it has no key, by which rows that are sent twice would be told apart"
            draft.not_moved.append(NotMoved(what=f"table {table.name}", reason=reason))
        else:
            yield table, other


def _is_over_api(endpoint: Endpoint) -> bool:
    return isinstance(endpoint, SupabaseEndpoint) and endpoint.database is None


def _accounts(source: Inventory, target: Inventory, draft: _Draft) -> AccountsPlan | None:
    if source.has_accounts:
        if target.has_accounts:
            return AccountsPlan()
        reason = "the target has no tables of accounts; `amphibase db upgrade` creates them"
        draft.not_moved.append(NotMoved(what="accounts", reason=reason))
        return None
    own = find_users_table(source.tables()) if target.has_accounts else None
    if own is None:
        return None
    table, columns = own
    if not is_uuid(table.column(columns.id).base_type):
        draft.mappings[table.name.name] = _mapping(table, draft)
    return AccountsPlan(table=str(table.name), columns=columns)


def _plan_profiles(
    source: Inventory, accounts: AccountsPlan | None, profiles: CatalogTable, draft: _Draft
) -> None:
    """Plan the profiles of people whose accounts are made of a table of users."""
    if accounts is None or accounts.columns is None:
        return
    own = next(table for table in source.tables() if str(table.name) == accounts.table)
    columns = profile_columns(own, accounts.columns, profiles)
    for column in own.columns:
        if column.name in IS_ADMIN and accounts.columns.is_admin is None:
            reason = f'set is_admin = "{column.name}" in [accounts.columns] to move administrators'
        else:
            reason = "the target's profiles have no such column"
        if column.name not in (*columns, *_meant(accounts.columns)):
            what = f"column {own.name}.{column.name}"
            draft.not_moved.append(NotMoved(what=what, reason=reason))
    draft.tables.append(
        TablePlan(
            source=str(own.name),
            target=str(profiles.name),
            key=own.key,
            columns=columns,
            ids={own.key[0]: own.name.name} if own.name.name in draft.mappings else {},
            triggers=_triggers(profiles),
        )
    )


def _triggers(table: CatalogTable) -> dict[str, Literal["off", "fire"]]:
    """Return what becomes of the target's triggers."""
    return dict.fromkeys(table.triggers, "off")


def _meant(columns: UserColumns) -> Iterator[str]:
    """Yield the columns that are an account's."""
    yield from map(str, columns.model_dump(exclude_none=True).values())


def _mapping(table: CatalogTable, draft: _Draft) -> MappingPlan:
    taken = draft.taken | {mapping.table for mapping in draft.mappings.values()}
    name = f"{table.name.name}_ids"
    while name in taken:
        name = f"old_{name}"
    return MappingPlan(
        source=str(table.name),
        column=table.key[0],
        namespace=str(uuid.uuid4()),
        table=name,
    )


def _map_ids(own: CatalogTable, other: CatalogTable, draft: _Draft) -> None:
    """Plan a mapping where the key is a number here and a UUID there."""
    if len(own.key) != 1 or other.key != own.key:
        return
    is_number = own.column(own.key[0]).base_type.lower() in INTEGERS
    if is_number and is_uuid(other.column(other.key[0]).base_type):
        name = own.name.name if own.name.name not in draft.mappings else str(own.name)
        draft.mappings[name] = _mapping(own, draft)


def _in_order(
    pairs: Sequence[tuple[CatalogTable, CatalogTable]],
) -> Iterator[tuple[CatalogTable, CatalogTable]]:
    """Yield a table after those that it refers to, as far as they form no cycle."""
    remaining = {own.name: (own, other) for own, other in pairs}
    while remaining:
        ready = [
            name
            for name, (own, _) in remaining.items()
            if all(k.target == name or k.target not in remaining for k in own.foreign_keys)
        ]
        for name in ready or [min(remaining, key=str)]:
            yield remaining.pop(name)


def _plan_table(own: CatalogTable, other: CatalogTable, draft: _Draft) -> None:
    there = {column.name: column for column in other.columns}
    columns = {}
    for column in own.columns:
        counterpart = there.get(column.name)
        what = f"column {own.name}.{column.name}"
        if counterpart is None:
            reason = "the target has no such column; rename it in the table's columns"
            draft.not_moved.append(NotMoved(what=what, reason=reason))
        elif counterpart.generated is not Generated.NO:
            pass  # the target computes it
        else:
            columns[column.name] = column.name
    if not set(own.key) <= columns.keys():
        reason = f"the target lacks a column of its key ({', '.join(own.key)})"
        draft.not_moved.append(NotMoved(what=f"table {own.name}", reason=reason))
        return
    mapped = {mapping.source: name for name, mapping in draft.mappings.items()}
    ids = {
        key.columns[0]: mapped[str(key.target)]
        for key in own.foreign_keys
        if len(key.columns) == 1
        and str(key.target) in mapped
        and key.target_columns == (draft.mappings[mapped[str(key.target)]].column,)
    }
    if str(own.name) in mapped:
        ids[own.key[0]] = mapped[str(own.name)]
    draft.tables.append(
        TablePlan(
            source=str(own.name),
            target=str(other.name),
            key=own.key,
            columns=columns,
            ids=ids,
            triggers=_triggers(other),
        )
    )


def _sequences(source: Inventory, target: Inventory, draft: _Draft) -> Iterator[str]:
    there = set(target.sequences())
    for name in source.sequences():
        if name in there:
            yield str(name)
        else:
            reason = "the target has no such sequence of its own; its migrations create it"
            draft.not_moved.append(NotMoved(what=f"sequence {name}", reason=reason))


def _files(source: Inventory, target: Inventory, draft: _Draft) -> FilesPlan | None:
    if not source.has_files or not source.buckets:
        return None
    if target.has_files:
        return FilesPlan(buckets=source.buckets)
    reason = "the target has no tables of files; `amphibase db upgrade` creates them"
    draft.not_moved.append(NotMoved(what="files", reason=reason))
    return None


def _others(source: Inventory, target: Endpoint) -> Iterator[NotMoved]:
    """Name views, functions, policies and the like of the application."""
    named = [(kind, name) for kind, name in source.catalog.others if kind != "extension"]
    for table in source.catalog.tables:
        if table.name == AUTH_USERS or not is_own(table.name):
            named += [("trigger", f"{name} on {table.name}") for name in table.triggers]
    is_dumped = schema_command(source.endpoint, target) is not None
    for kind, name in named:
        if _is_derived(kind, name):
            continue
        reason = "the target's own migrations create it"
        if _is_sqlite(target) and kind in NONE_IN_SQLITE:
            reason = "SQLite has no such objects"
        elif is_dumped and _schema_of(name) not in OWN_SCHEMAS:
            reason += "; the pg_dump of the plan writes it"
        yield NotMoved(what=f"{kind} {name}", reason=reason)


def _is_derived(kind: str, name: str) -> bool:
    """Return whether an object is Supabase's, or made by Amphibase of the models on each side."""
    own, _, table = name.rpartition(" on ")
    schema = _schema_of(name)
    if schema in OWN_SCHEMAS | {QUEUES} and not (
        # Supabase makes none there: people do, for whom its Storage and Realtime apply them.
        (kind == "policy" and schema in HAS_POLICIES) or (kind == "trigger" and schema == "auth")
    ):
        return True
    return (own or table.rpartition(".")[2]).strip('"').startswith("amphibase_")


def _schema_of(name: str) -> str | None:
    """Return the schema of an object, or of the table that it is on."""
    schema, separator, _ = name.rpartition(" on ")[2].partition(".")
    return schema.strip('"') if separator else None
