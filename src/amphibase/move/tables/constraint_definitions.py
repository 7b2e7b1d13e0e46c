"""Indexes, keys and foreign keys of a Postgres table, as the statements that drop and make them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.sql import SQL, Composable, Identifier, Literal

from amphibase.move.catalog import TableName
from amphibase.move.tables.postgres_session import qualified, relation

INDEX, FOREIGN_KEY = "index off", "foreign key off"
"""The kinds of the journal's entries."""

INDEXES: LiteralString = """
    SELECT class.relname AS name, pg_get_indexdef(index.indexrelid) AS definition,
           con.conname IS NOT NULL AS is_key,
           CASE con.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END
           || format(' USING INDEX %%I', class.relname)
           || CASE WHEN con.condeferrable THEN ' DEFERRABLE' ELSE '' END
           || CASE WHEN con.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END
               AS key_definition,
           coalesce(tablespace.spcname, '') AS tablespace,
           index.indisclustered, index.indisreplident, index.indisunique,
           obj_description(index.indexrelid, 'pg_class') AS comment,
           obj_description(con.oid, 'pg_constraint') AS key_comment,
           pg_get_expr(index.indpred, index.indrelid) AS predicate,
           ARRAY(SELECT pg_get_indexdef(index.indexrelid, place, true)
                   FROM generate_series(1, index.indnkeyatts) place) AS expressions,
           coalesce(to_jsonb(index) ->> 'indnullsnotdistinct', 'false')::boolean
               AS nulls_are_equal,
           has_schema_privilege(class.relnamespace, 'CREATE')
           AND (class.reltablespace = 0
                OR has_tablespace_privilege(class.reltablespace, 'CREATE')) AS is_restorable
      FROM pg_index index
      JOIN pg_class class ON class.oid = index.indexrelid
      LEFT JOIN pg_tablespace tablespace ON tablespace.oid = class.reltablespace
      LEFT JOIN pg_constraint con ON con.conindid = index.indexrelid
           AND con.conrelid = index.indrelid AND con.contype IN ('p', 'u', 'x')
     WHERE index.indrelid = %s::regclass AND class.relkind = 'i' AND NOT class.relispartition
       AND index.indisvalid AND index.indisready AND NOT index.indisexclusion
       AND NOT EXISTS (SELECT FROM pg_attribute
                        WHERE attrelid = index.indexrelid AND attstattarget >= 0)
     ORDER BY con.contype IS NOT DISTINCT FROM 'p' DESC, class.relname
"""

FOREIGN_KEYS: LiteralString = """
    SELECT con.conname AS name, pg_get_constraintdef(con.oid) AS definition,
           obj_description(con.oid, 'pg_constraint') AS comment,
           own.relkind = 'p' AS is_partitioned, target.relkind = 'p' AS target_is_partitioned,
           namespace.nspname AS target_schema, target.relname AS target_name,
           ARRAY(SELECT attname::text FROM unnest(con.conkey) WITH ORDINALITY AS key(number, place)
                   JOIN pg_attribute ON attrelid = con.conrelid AND attnum = number
                  ORDER BY place) AS columns,
           ARRAY(SELECT attname::text FROM unnest(con.confkey) WITH ORDINALITY AS key(number, place)
                   JOIN pg_attribute ON attrelid = con.confrelid AND attnum = number
                  ORDER BY place) AS target_columns,
           has_schema_privilege(namespace.oid, 'USAGE')
           AND (has_table_privilege(con.confrelid, 'REFERENCES')
                OR (SELECT bool_and(has_column_privilege(con.confrelid, number, 'REFERENCES'))
                      FROM unnest(con.confkey) AS number)) AS is_restorable
      FROM pg_constraint con
      JOIN pg_class own ON own.oid = con.conrelid
      JOIN pg_class target ON target.oid = con.confrelid
      JOIN pg_namespace namespace ON namespace.oid = target.relnamespace
     WHERE con.conrelid = %s::regclass AND con.contype = 'f' AND con.conparentid = 0
     ORDER BY con.conname
"""


@dataclass(frozen=True, slots=True)
class TakenOff:
    """An index, with the constraint that it stands for, or a foreign key.

    Args:
        kind: of the journal's entry.
        drop: the statement that takes it off.
        restore: the statements that put it back, in one transaction.
        delete: the statement that deletes the rows which it forbids; None for an index that forbids
            none.
        is_restorable: whether the role has the rights to put it back; to take it off, it needs
            but to own the table.
    """

    kind: str
    table: TableName
    name: str
    drop: str
    restore: tuple[str, ...]
    delete: str | None
    is_restorable: bool = True

    @property
    def key(self) -> str:
        """The name of the journal's entry."""
        return f"{self.table} {self.name}"

    def to_json(self) -> dict[str, Any]:
        """Return what the journal holds."""
        return {
            "table": self.table,
            "name": self.name,
            "drop": self.drop,
            "restore": self.restore,
            "delete": self.delete,
        }

    @classmethod
    def from_json(cls, kind: str, value: dict[str, Any]) -> "TakenOff":
        """Read what the journal holds."""
        return cls(
            kind,
            TableName(*value["table"]),
            value["name"],
            value["drop"],
            tuple(value["restore"]),
            value["delete"],
        )


async def read_indexes(connection: AsyncConnection, table: TableName) -> list[TakenOff]:
    """Return the indexes of a table, with the keys that they are of, which can be made again.

    Left out are those of partitioned tables and of exclusion constraints, and invalid ones.
    """
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(INDEXES, (qualified(table).as_string(connection),))
    return [_index(connection, table, row) async for row in cursor]


def _index(connection: AsyncConnection, table: TableName, row: Mapping[str, Any]) -> TakenOff:
    names = {
        "table": qualified(table),
        "index": qualified(TableName(table.schema, row["name"])),
        "name": Identifier(row["name"]),
        **{name: Literal(row[name]) for name in ("tablespace", "comment", "key_comment")},
    }
    steps = {
        "COMMENT ON INDEX {index} IS {comment}": row["comment"] is not None,
        "COMMENT ON CONSTRAINT {name} ON {table} IS {key_comment}": row["key_comment"] is not None,
        "ALTER TABLE {table} CLUSTER ON {name}": row["indisclustered"],
        "ALTER TABLE {table} REPLICA IDENTITY USING INDEX {name}": row["indisreplident"],
    }

    def text(statement: LiteralString) -> str:
        return _text(connection, SQL(statement), names)

    restore = [text("SET LOCAL default_tablespace = {tablespace}"), row["definition"]]
    if row["is_key"]:
        restore.append(text("ALTER TABLE {table} ADD CONSTRAINT {name} ") + row["key_definition"])
        drop = text("ALTER TABLE {table} DROP CONSTRAINT {name}")
    else:
        drop = text("DROP INDEX {index}")
    restore += [text(statement) for statement, is_needed in steps.items() if is_needed]
    delete = _delete_doubled(connection, table, row) if row["indisunique"] else None
    return TakenOff(
        INDEX, table, row["name"], drop, tuple(restore), delete, is_restorable=row["is_restorable"]
    )


def _delete_doubled(connection: AsyncConnection, table: TableName, row: Mapping[str, Any]) -> str:
    values = row["expressions"]
    conditions = [] if row["nulls_are_equal"] else [f"{value} IS NOT NULL" for value in values]
    if row["predicate"] is not None:
        conditions.append(f"({row['predicate']})")
    name = relation(table, is_partitioned=False).as_string(connection)
    return (
        f"DELETE FROM {name} WHERE ctid IN (SELECT unnest(array_agg(ctid)) FROM {name} "  # noqa: S608
        f"WHERE {' AND '.join(conditions) or 'true'} GROUP BY {', '.join(values)} "
        "HAVING count(*) > 1)"
    )


async def read_foreign_keys(connection: AsyncConnection, table: TableName) -> list[TakenOff]:
    """Return the foreign keys of a table."""
    cursor = connection.cursor(row_factory=dict_row)
    await cursor.execute(FOREIGN_KEYS, (qualified(table).as_string(connection),))
    return [_foreign_key(connection, table, row) async for row in cursor]


def _foreign_key(connection: AsyncConnection, table: TableName, row: Mapping[str, Any]) -> TakenOff:
    target = TableName(row["target_schema"], row["target_name"])
    names = {
        "table": qualified(table),
        "name": Identifier(row["name"]),
        "rows": relation(table, is_partitioned=row["is_partitioned"]),
        "target": relation(target, is_partitioned=row["target_is_partitioned"]),
        "comment": Literal(row["comment"]),
    }
    add = _text(connection, SQL("ALTER TABLE {table} ADD CONSTRAINT {name} "), names)
    restore = [add + row["definition"]]
    if row["comment"] is not None:
        comment = SQL("COMMENT ON CONSTRAINT {name} ON {table} IS {comment}")
        restore.append(_text(connection, comment, names))
    refers = SQL(" AND ").join(
        SQL("row.{} IS NOT NULL").format(Identifier(name)) for name in row["columns"]
    )
    matches = SQL(" AND ").join(
        SQL("target.{} = row.{}").format(Identifier(target), Identifier(column))
        for column, target in zip(row["columns"], row["target_columns"], strict=True)
    )
    delete = SQL(
        "DELETE FROM {rows} AS row WHERE {refers} AND NOT EXISTS "
        "(SELECT FROM {target} AS target WHERE {matches})"
    )
    return TakenOff(
        FOREIGN_KEY,
        table,
        row["name"],
        _text(connection, SQL("ALTER TABLE {table} DROP CONSTRAINT {name}"), names),
        tuple(restore),
        _text(connection, delete, {**names, "refers": refers, "matches": matches}),
        is_restorable=row["is_restorable"],
    )


def _text(connection: AsyncConnection, statement: SQL, names: Mapping[str, Composable]) -> str:
    return statement.format(**names).as_string(connection)
