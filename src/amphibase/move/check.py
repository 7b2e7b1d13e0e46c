"""Looks at both ends before anything is written: each thing passes, warns or fails."""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg import AsyncConnection
from rich.filesize import decimal
from sqlalchemy.engine import URL

from amphibase.database.errors import translated_errors
from amphibase.database.url import to_conninfo
from amphibase.errors import AmphibaseError
from amphibase.move.catalog import CatalogTable, DatabaseCatalog
from amphibase.move.context import MoveContext
from amphibase.move.endpoints import Endpoint, Role, SqlEndpoint
from amphibase.move.plan import MappingPlan, TablePlan
from amphibase.move.stage import Outcome, PreflightCheck
from amphibase.move.tables.postgres_session import OUR_SCHEMA
from amphibase.move.tables.sides import open_tables
from amphibase.schema.migrations.locations import application_location
from amphibase.settings.application import load_settings

RIGHTS = """
    SELECT wanted.schema || '.' || wanted.name, privilege
      FROM unnest(%s::text[], %s::text[]) AS wanted (schema, name)
      JOIN pg_namespace ON nspname = wanted.schema
      JOIN pg_class class ON relnamespace = pg_namespace.oid AND relname = wanted.name
     CROSS JOIN LATERAL (
           SELECT privilege FROM unnest(%s::text[]) AS privilege
            WHERE relkind <> 'S' AND NOT has_table_privilege(class.oid, privilege)
     UNION SELECT privilege FROM unnest(%s::text[]) AS privilege
            WHERE relkind = 'S' AND NOT has_sequence_privilege(class.oid, privilege)
     UNION SELECT 'USAGE on its schema'
            WHERE NOT has_schema_privilege(pg_namespace.oid, 'USAGE')) AS lacking (privilege)
     ORDER BY 1, 2
"""
NEEDED = {Role.SOURCE: ["SELECT"], Role.TARGET: ["SELECT", "INSERT", "UPDATE", "DELETE"]}
NEEDED_OF_SEQUENCES = {Role.SOURCE: ["SELECT"], Role.TARGET: ["SELECT", "UPDATE"]}

MAY_MAKE_SCHEMA = """
    SELECT current_database()::text,
           has_database_privilege(current_database(), 'CREATE')
           OR EXISTS (SELECT FROM pg_namespace
                       WHERE nspname = %s AND has_schema_privilege(oid, 'CREATE')
                         AND has_schema_privilege(oid, 'USAGE'))
"""

SERVER = """
    SELECT current_user::text, current_setting('server_version_num')::int / 10000,
           pg_database_size(current_database()),
           ARRAY(SELECT extname::text FROM pg_extension WHERE extname <> 'plpgsql')
"""


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """What the checks compare of a Postgres.

    Args:
        role: that connects.
        size: of the database, in bytes.
    """

    role: str
    major: int
    size: int
    extensions: tuple[str, ...]


async def check_sides(context: MoveContext) -> list[PreflightCheck]:
    """Check that both ends can be reached, read and written, and hold what the plan names."""
    checks: list[PreflightCheck] = []
    catalogs: list[DatabaseCatalog] = []
    for endpoint in (context.source, context.target):
        try:
            async with open_tables(endpoint, context.plan.name) as tables:
                catalogs.append(await tables.catalog())
        except AmphibaseError as error:
            checks.append(PreflightCheck(Outcome.FAIL, endpoint.role, error.detail))
        else:
            reached = f"{catalogs[-1].server} at {endpoint.address}"
            checks.append(PreflightCheck(Outcome.PASS, endpoint.role, reached))
    if len(catalogs) < 2:
        return checks
    source, target = catalogs
    checks += _check_ends(context)
    checks += _check_alembic(source, target)
    checks += _check_models(source, target)
    checks += _check_tables(context.plan.tables, source, target)
    checks += _check_mappings(context.plan.mappings, source)
    for name in context.plan.sequences:
        for role, catalog in ((Role.SOURCE, source), (Role.TARGET, target)):
            if name not in map(str, catalog.sequences):
                message = (
                    f"the {role} has no such sequence of its own; create it by migrations, or take "
                    "it off the plan"
                )
                checks.append(PreflightCheck(Outcome.FAIL, name, message))
    checks += _check_stores(context)
    checks += await _check_servers(context, {Role.SOURCE: source, Role.TARGET: target})
    return checks


def _check_ends(context: MoveContext) -> Iterator[PreflightCheck]:
    """Check that nothing moves to where it is; tables of one database may move to other ones."""
    if context.source.address != context.target.address:
        return
    plan = context.plan
    same = [table.source for table in plan.tables if table.source == table.target]
    same += ["accounts"] if plan.accounts and not plan.accounts.table else []
    same += ["files"] if plan.files else []
    for name in same:
        yield PreflightCheck(
            Outcome.FAIL, name, f"both ends are {context.source.address}: name another one"
        )


def _check_alembic(source: DatabaseCatalog, target: DatabaseCatalog) -> Iterator[PreflightCheck]:
    here, there = (", ".join(sorted(each.alembic_heads)) for each in (source, target))
    if not here:
        return
    if here == there:
        yield PreflightCheck(Outcome.PASS, "revisions", f"both sides are at {here}")
    elif there:
        message = (
            f"the source is at {here}, the target at {there}: bring both to the same revision "
            "with `amphibase db upgrade`, then plan anew"
        )
        yield PreflightCheck(Outcome.FAIL, "revisions", message)
    else:
        message = f"the source is at {here}; the target has no revisions to compare with"
        yield PreflightCheck(Outcome.WARN, "revisions", message)


def _check_models(source: DatabaseCatalog, target: DatabaseCatalog) -> Iterator[PreflightCheck]:
    """Check that both sides are where the application's own migrations end, if it has any here."""
    settings = load_settings()
    location = application_location(settings)
    head, known = location.head(), location.revisions()
    if head is None or not settings.migrations_dir.is_dir():
        return
    for role, catalog in ((Role.SOURCE, source), (Role.TARGET, target)):
        for revision in sorted(catalog.alembic_heads - {head}):
            if revision in known:
                message = (
                    f"the {role} is at {revision}, and the migrations in {settings.migrations_dir} "
                    f"end at {head}: run `amphibase db upgrade` on it, then plan anew"
                )
                yield PreflightCheck(Outcome.FAIL, "revisions", message)
            else:
                message = (
                    f"the {role} is at {revision}, which is not one of the migrations in "
                    f"{settings.migrations_dir}"
                )
                yield PreflightCheck(Outcome.WARN, "revisions", message)


def _check_tables(
    plans: tuple[TablePlan, ...], source: DatabaseCatalog, target: DatabaseCatalog
) -> list[PreflightCheck]:
    checks: list[PreflightCheck] = []
    for plan in plans:
        for role, catalog, name, columns in (
            (Role.SOURCE, source, plan.source, [*plan.columns, *plan.key]),
            (Role.TARGET, target, plan.target, list(plan.columns.values())),
        ):
            table = catalog.planned(name)
            checks += _check_table(role, name, table, columns)
            if table is not None and role is Role.TARGET:
                checks += _check_triggers(plan, table)
    if plans and all(check.outcome is not Outcome.FAIL for check in checks):
        message = f"{len(plans)} are on both sides, with the plan's columns"
        checks.append(PreflightCheck(Outcome.PASS, "tables", message))
    return checks


def _check_table(
    role: Role, name: str, table: CatalogTable | None, columns: list[str]
) -> Iterator[PreflightCheck]:
    if table is None:
        message = f"the {role} has no such table; create it by migrations, or take it off the plan"
        yield PreflightCheck(Outcome.FAIL, name, message)
        return
    known = {column.name for column in table.columns}
    for column in dict.fromkeys(columns):
        if column not in known:
            yield PreflightCheck(
                Outcome.FAIL, name, f"the {role} has no column {column}; edit the plan"
            )
    if table.read_policies:
        message = (
            f"row level security hides rows of the {role} from the role that connects: connect as "
            "the owner of the table, or as a role with BYPASSRLS"
        )
        yield PreflightCheck(Outcome.FAIL, name, message)


def _check_mappings(
    mappings: Mapping[str, MappingPlan], source: DatabaseCatalog
) -> Iterator[PreflightCheck]:
    for name, mapping in mappings.items():
        table = source.planned(mapping.source)
        yield from _check_table(
            Role.SOURCE, f"mappings.{name}: {mapping.source}", table, [mapping.column]
        )


def _check_triggers(plan: TablePlan, table: CatalogTable) -> Iterator[PreflightCheck]:
    for trigger in table.triggers:
        if plan.triggers.get(trigger, "off") == "fire":
            message = f"the trigger {trigger} of the target fires for rows that arrive"
            yield PreflightCheck(Outcome.WARN, plan.target, message)
        elif not table.is_owned:
            message = (
                f"the trigger {trigger} of the target cannot be switched off, as the table belongs "
                'to another role: connect as that role, or let it "fire" in the plan'
            )
            yield PreflightCheck(Outcome.FAIL, plan.target, message)
        else:
            message = f"the trigger {trigger} of the target is off for rows that arrive"
            yield PreflightCheck(Outcome.PASS, plan.target, message)


def _check_stores(context: MoveContext) -> Iterator[PreflightCheck]:
    source, target = context.source, context.target
    if context.plan.files is None or not isinstance(target, SqlEndpoint):
        return
    if isinstance(source, SqlEndpoint) and source.files == target.files:
        message = (
            "both sides keep files in the same place: set TARGET_FILES_URL to another, and plan "
            "anew"
        )
        yield PreflightCheck(Outcome.FAIL, "files", message)


async def _check_servers(
    context: MoveContext, catalogs: Mapping[Role, DatabaseCatalog]
) -> list[PreflightCheck]:
    servers: dict[Role, PostgresServer] = {}
    checks: list[PreflightCheck] = []
    for endpoint in (context.source, context.target):
        url = endpoint.database
        if url is None or url.get_backend_name() != "postgresql":
            continue
        names = {
            plan.source if endpoint.role is Role.SOURCE else plan.target: (
                plan.columns if endpoint.role is Role.SOURCE else plan.columns.values()
            )
            for plan in context.plan.tables
        }
        relations = [
            each
            for name, columns in names.items()
            if (table := catalogs[endpoint.role].planned(name)) is not None
            for each in _relations(table, columns)
        ]
        relations += [
            (name.schema or "public", name.name)
            for name in catalogs[endpoint.role].sequences
            if str(name) in context.plan.sequences
        ]
        server, lacking = await _read_server(url, endpoint.role, relations)
        servers[endpoint.role] = server
        for name, what in lacking:
            message = f"the role {server.role} of the {endpoint.role} lacks {what}"
            checks.append(PreflightCheck(Outcome.FAIL, name, message))
    if len(servers) == 2:
        checks += _compare_servers(servers[Role.SOURCE], servers[Role.TARGET])
    checks.append(_check_disk(context.source, context.target, servers))
    return checks


def _relations(table: CatalogTable, columns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield a table, and the sequences of its columns, each as schema and name."""
    yield table.name.schema or "public", table.name.name
    wanted = set(columns)
    for column in table.columns:
        if column.name in wanted and column.sequence is not None:
            yield column.sequence.schema or "public", column.sequence.name


async def _read_server(
    url: URL, role: Role, relations: list[tuple[str, str]]
) -> tuple[PostgresServer, list[tuple[str, str]]]:
    """Return a server, and which rights its role lacks, each with what they are to."""
    with translated_errors():
        connection = await AsyncConnection.connect(to_conninfo(url), prepare_threshold=None)
        async with connection:
            row: Any = await (await connection.execute(SERVER)).fetchone()
            name, major, size, extensions = row
            schemas, names = [each[0] for each in relations], [each[1] for each in relations]
            needed = NEEDED[role], NEEDED_OF_SEQUENCES[role]
            cursor = await connection.execute(RIGHTS, [schemas, names, *needed])
            lacking = [(str(what), str(right)) for what, right in await cursor.fetchall()]
            if role is Role.TARGET and relations:
                row = await (await connection.execute(MAY_MAKE_SCHEMA, [OUR_SCHEMA])).fetchone()
                database, is_possible = row
                if not is_possible:
                    what = f"CREATE on the database, by which checkpoints get a schema {OUR_SCHEMA}"
                    lacking.append((database, what))
            return PostgresServer(name, major, size, tuple(extensions)), lacking


def _compare_servers(source: PostgresServer, target: PostgresServer) -> Iterator[PreflightCheck]:
    if source.major > target.major:
        message = (
            f"the source is Postgres {source.major}, the target {target.major}: values that only "
            "the newer one has, such as infinite intervals of 17, are rejected"
        )
        yield PreflightCheck(Outcome.WARN, "versions", message)
    else:
        message = f"Postgres {source.major} to {target.major}"
        yield PreflightCheck(Outcome.PASS, "versions", message)
    for extension in sorted(set(source.extensions) - set(target.extensions)):
        message = f"the target lacks {extension}, which the source has: create it if you use it"
        yield PreflightCheck(Outcome.WARN, "extensions", message)


def _check_disk(
    source: Endpoint, target: Endpoint, servers: Mapping[Role, PostgresServer]
) -> PreflightCheck:
    size = None
    if Role.SOURCE in servers:
        size = servers[Role.SOURCE].size
    elif source.database is not None:
        file = Path(source.database.database or "")
        size = file.stat().st_size if file.exists() else None
    needed = "" if size is None else f"; the source's database has {decimal(size)}"
    if target.database is None or Role.TARGET in servers:
        message = f"how much room the target's server has is not known here{needed}"
        return PreflightCheck(Outcome.WARN, "disk", message)
    free = shutil.disk_usage(Path(target.database.database or ".").parent).free
    is_enough = size is None or free > 2 * size
    message = f"{decimal(free)} free for the target{needed}"
    return PreflightCheck(Outcome.PASS if is_enough else Outcome.FAIL, "disk", message)
