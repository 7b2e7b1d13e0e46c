"""The tables of a Postgres, read from `pg_catalog`."""

from collections import defaultdict
from typing import Any, LiteralString

from psycopg import AsyncConnection, errors
from psycopg.sql import SQL, Identifier

from amphibase.move.catalog import (
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    DatabaseCatalog,
    Generated,
    Identity,
    TableName,
)
from amphibase.schema.triggers import GUARDS

TABLES: LiteralString = """
    SELECT class.oid, namespace.nspname, class.relname, class.relkind = 'p',
           row_security_active(class.oid), pg_has_role(class.relowner, 'USAGE'),
           (SELECT coalesce(sum(greatest(part.reltuples, 0)), 0)::bigint FROM pg_class part
             WHERE part.oid = class.oid OR part.oid IN (
                SELECT relid FROM pg_partition_tree(class.oid) WHERE isleaf)),
           ARRAY(SELECT tgname::text FROM pg_trigger
                  WHERE tgrelid = class.oid AND NOT tgisinternal AND tgname !~ %s
                    AND tgfoid IS DISTINCT FROM to_regprocedure('realtime.write_to_outbox()')
                  ORDER BY tgname)
      FROM pg_class class JOIN pg_namespace namespace ON namespace.oid = class.relnamespace
     WHERE class.relkind IN ('r', 'p') AND NOT class.relispartition
       AND class.relpersistence <> 't' AND nspname !~ '^(pg_|information_schema$|amphibase_move$)'
       AND NOT EXISTS (SELECT FROM pg_depend
                        WHERE classid = 'pg_class'::regclass AND objid = class.oid
                          AND deptype = 'e')
     ORDER BY 2, 3
"""

COLUMNS: LiteralString = """
    WITH RECURSIVE bases AS (
        SELECT oid, oid AS base, typtypmod AS modifier, typtype, typbasetype FROM pg_type
        UNION ALL
        SELECT bases.oid, type.oid,
               CASE WHEN bases.modifier >= 0 THEN bases.modifier ELSE type.typtypmod END,
               type.typtype, type.typbasetype
          FROM bases JOIN pg_type type ON type.oid = bases.typbasetype
         WHERE bases.typtype = 'd'
    )
    SELECT attribute.attrelid, attribute.attname,
           format_type(attribute.atttypid, attribute.atttypmod),
           CASE WHEN bases.oid = bases.base THEN format_type(attribute.atttypid, atttypmod)
                ELSE format_type(bases.base, bases.modifier) END,
           NOT attribute.attnotnull, attribute.attgenerated, attribute.attidentity,
           bases.typtype = 'e',
           (SELECT ARRAY[owner.nspname::text, sequence.relname::text]
              FROM pg_depend JOIN pg_class sequence ON sequence.oid = CASE
                       WHEN classid = 'pg_class'::regclass THEN objid ELSE refobjid END
              JOIN pg_namespace owner ON owner.oid = sequence.relnamespace
             WHERE sequence.relkind = 'S' AND (
                   (classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass
                    AND refobjid = attribute.attrelid AND refobjsubid = attribute.attnum
                    AND deptype = 'i')
                OR (classid = 'pg_attrdef'::regclass AND refclassid = 'pg_class'::regclass
                    AND objid = "default".oid))
             LIMIT 1)
      FROM pg_attribute attribute
      JOIN bases ON bases.oid = attribute.atttypid AND bases.typtype <> 'd'
      LEFT JOIN pg_attrdef "default"
        ON "default".adrelid = attribute.attrelid AND "default".adnum = attribute.attnum
     WHERE attribute.attrelid = ANY(%s) AND attribute.attnum > 0 AND NOT attribute.attisdropped
     ORDER BY attribute.attrelid, attribute.attnum
"""

UNIQUE_KEYS: LiteralString = """
    SELECT index.indrelid, index.indisprimary,
           ARRAY(SELECT attname::text
                   FROM unnest(index.indkey) WITH ORDINALITY AS part(number, place)
                   JOIN pg_attribute ON attrelid = index.indrelid AND attnum = number
                  WHERE place <= index.indnkeyatts ORDER BY place),
           (SELECT bool_and(attnotnull) FROM unnest(index.indkey) AS number
              JOIN pg_attribute ON attrelid = index.indrelid AND attnum = number)
      FROM pg_index index JOIN pg_class class ON class.oid = index.indexrelid
     WHERE index.indrelid = ANY(%s) AND index.indisunique AND index.indisvalid
       AND index.indpred IS NULL AND index.indexprs IS NULL
     ORDER BY index.indrelid, index.indisprimary DESC, index.indnkeyatts, class.relname
"""

FOREIGN_KEYS: LiteralString = """
    SELECT "constraint".conrelid, "constraint".conname,
           ARRAY(SELECT attname::text FROM unnest(conkey) WITH ORDINALITY AS part(number, place)
                   JOIN pg_attribute ON attrelid = conrelid AND attnum = number ORDER BY place),
           namespace.nspname, target.relname,
           ARRAY(SELECT attname::text FROM unnest(confkey) WITH ORDINALITY AS part(number, place)
                   JOIN pg_attribute ON attrelid = confrelid AND attnum = number ORDER BY place)
      FROM pg_constraint "constraint"
      JOIN pg_class target ON target.oid = "constraint".confrelid
      JOIN pg_namespace namespace ON namespace.oid = target.relnamespace
     WHERE "constraint".conrelid = ANY(%s) AND "constraint".contype = 'f'
       AND "constraint".conparentid = 0
     ORDER BY 1, 2
"""

SEQUENCES: LiteralString = """
    SELECT nspname::text, relname::text
      FROM pg_class class JOIN pg_namespace namespace ON namespace.oid = relnamespace
     WHERE relkind = 'S' AND relpersistence <> 't'
       AND nspname !~ '^(pg_|information_schema$|amphibase_move$)'
       AND NOT EXISTS (SELECT FROM pg_depend
                        WHERE classid = 'pg_class'::regclass AND objid = class.oid
                          AND deptype IN ('i', 'e'))
       AND NOT EXISTS (SELECT FROM pg_depend
                        WHERE classid = 'pg_attrdef'::regclass
                          AND refclassid = 'pg_class'::regclass AND refobjid = class.oid)
     ORDER BY 1, 2
"""
"""Those that are neither an identity's nor in the default of a column."""

OTHERS: LiteralString = """
    SELECT kind, name FROM (
        SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view'
                            ELSE 'foreign table' END AS kind,
               format('%I.%I', nspname, relname) AS name, 'pg_class'::regclass AS catalog,
               class.oid AS oid, nspname
          FROM pg_class class JOIN pg_namespace namespace ON namespace.oid = relnamespace
         WHERE relkind IN ('v', 'm', 'f')
           AND nspname !~ '^(pg_|information_schema$|amphibase_move$)'
        UNION ALL
        SELECT CASE prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate'
                            ELSE 'function' END,
               format('%I.%I(%s)', nspname, proname,
                      pg_get_function_identity_arguments(pg_proc.oid)),
               'pg_proc'::regclass, pg_proc.oid, nspname
          FROM pg_proc JOIN pg_namespace namespace ON namespace.oid = pronamespace
         WHERE nspname !~ '^(pg_|information_schema$|amphibase_move$)'
        UNION ALL
        SELECT 'policy', format('%I on %I.%I', polname, nspname, relname),
               'pg_policy'::regclass, pg_policy.oid, nspname
          FROM pg_policy JOIN pg_class class ON class.oid = polrelid
          JOIN pg_namespace namespace ON namespace.oid = relnamespace
         WHERE nspname !~ '^(pg_|information_schema$|amphibase_move$)'
        UNION ALL
        SELECT 'extension', format('%I', extname), 'pg_extension'::regclass, oid, ''
          FROM pg_extension WHERE extname <> 'plpgsql'
    ) AS objects
     WHERE NOT EXISTS (SELECT FROM pg_depend
                        WHERE classid = catalog AND objid = objects.oid AND deptype = 'e')
     ORDER BY 1, 2
"""

GENERATED = {"": Generated.NO, "s": Generated.STORED, "v": Generated.VIRTUAL}
IDENTITY = {"a": Identity.ALWAYS, "d": Identity.BY_DEFAULT}


async def read_postgres_catalog(connection: AsyncConnection) -> DatabaseCatalog:
    """Read the tables of all schemas that are not the server's own, and what does not move.

    Args:
        connection: in a transaction, whose `search_path` is changed: only with an empty one do
            types come with their schemas.
    """
    await connection.execute("SET LOCAL search_path = pg_catalog")
    # Those concern clients alone, from whom they protect rows also while a move writes.
    rows = await (await connection.execute(TABLES, (GUARDS,))).fetchall()
    oids = [row[0] for row in rows]
    columns = await _by_table(connection, COLUMNS, oids)
    keys = await _by_table(connection, UNIQUE_KEYS, oids)
    foreign_keys = await _by_table(connection, FOREIGN_KEYS, oids)
    tables = tuple(
        CatalogTable(
            name=TableName(schema, name),
            columns=tuple(_column(*each) for each in columns[oid]),
            key=_key(keys[oid]),
            unique_keys=tuple(tuple(names) for _, names, _ in keys[oid]),
            foreign_keys=tuple(
                CatalogForeignKey(own, tuple(names), TableName(other, target), tuple(targets))
                for own, names, other, target, targets in foreign_keys[oid]
            ),
            triggers=tuple(triggers),
            rows=estimate,
            partitions=is_partitioned,
            is_owned=is_owned,
            read_policies=hides_rows,
        )
        for oid, schema, name, is_partitioned, hides_rows, is_owned, estimate, triggers in rows
    )
    others = await (await connection.execute(OTHERS)).fetchall()
    sequences = await (await connection.execute(SEQUENCES)).fetchall()
    return DatabaseCatalog(
        tables,
        f"PostgreSQL {connection.info.parameter_status('server_version')}",
        await _alembic_heads(connection, tables),
        tuple((kind, name) for kind, name in others),
        tuple(TableName(*name) for name in sequences),
    )


async def _by_table(
    connection: AsyncConnection, query: LiteralString, oids: list[int]
) -> dict[int, list[tuple[Any, ...]]]:
    """Return the rows of a query by their first column, a table's oid."""
    grouped: dict[int, list[tuple[Any, ...]]] = defaultdict(list)
    for oid, *values in await (await connection.execute(query, [oids])).fetchall():
        grouped[oid].append(tuple(values))
    return grouped


def _column(
    name: str,
    type: str,
    base_type: str,
    is_nullable: bool,
    generated: str,
    identity: str,
    is_enum: bool,
    sequence: list[str] | None,
) -> CatalogColumn:
    counted = Identity.SEQUENCE if sequence else Identity.NO
    return CatalogColumn(
        name,
        type,
        base_type,
        is_nullable,
        GENERATED[generated],
        IDENTITY.get(identity, counted),
        is_enum,
        None if sequence is None else TableName(*sequence),
    )


def _key(keys: list[tuple[Any, ...]]) -> tuple[str, ...]:
    """Return the columns of the primary key, else of a unique key without NULLs."""
    for _, names, has_no_nulls in keys:
        if has_no_nulls:
            return tuple(names)
    return ()


async def _alembic_heads(
    connection: AsyncConnection, tables: tuple[CatalogTable, ...]
) -> frozenset[str]:
    heads: set[str] = set()
    for table in tables:
        if table.name.name == "alembic_version" and table.name.schema is not None:
            query = SQL("SELECT version_num FROM {}").format(
                Identifier(table.name.schema, table.name.name)
            )
            try:
                async with connection.transaction():
                    cursor = await connection.execute(query)
                    heads.update(version for (version,) in await cursor.fetchall())
            except errors.InsufficientPrivilege:
                continue
    return frozenset(heads)
