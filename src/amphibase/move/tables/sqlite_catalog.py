"""The tables of a SQLite database, read by its pragmas (https://www.sqlite.org/pragma.html)."""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence

from amphibase.errors import MoveFailed
from amphibase.move.catalog import (
    CatalogColumn,
    CatalogForeignKey,
    CatalogTable,
    DatabaseCatalog,
    Generated,
    Identity,
    TableName,
)

GENERATED = {2: Generated.VIRTUAL, 3: Generated.STORED}
ROWIDS = ("rowid", "_rowid_", "oid")

HIDDEN = 1
"""A column of a virtual table that is no part of its rows."""


def read_sqlite_catalog(connection: sqlite3.Connection) -> DatabaseCatalog:
    """Read the tables, but those of SQLite's own and of virtual tables, and what does not move."""
    kinds = {
        name: kind
        for schema, name, kind, *_ in connection.execute("PRAGMA table_list")
        if schema == "main" and not name.startswith("sqlite_")
    }
    names = sorted(
        name
        for name, kind in kinds.items()
        if kind == "table" and name != "amphibase_move_checkpoints"
    )
    triggers = defaultdict(list)
    for name, table in connection.execute(
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' ORDER BY name"
    ):
        triggers[_as_declared(table, names)].append(name)
    others = [
        (f"{kind} table" if kind == "virtual" else kind, name)
        for name, kind in sorted(kinds.items())
        if kind in ("view", "virtual")
    ]
    heads = (
        frozenset(version for (version,) in connection.execute("SELECT * FROM alembic_version"))
        if "alembic_version" in names
        else frozenset()
    )
    return DatabaseCatalog(
        tuple(_table(connection, name, tuple(triggers[name])) for name in names),
        f"SQLite {sqlite3.sqlite_version}",
        heads,
        tuple(others),
    )


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def rowid_of(table: CatalogTable) -> str:
    """Return a name of the number that SQLite gives to each row of a table.

    A column of such a name hides it (https://www.sqlite.org/lang_createtable.html#rowid).

    Raises:
        MoveFailed: the table has columns of all three names.
    """
    taken = {column.name.lower() for column in table.columns}
    for name in ROWIDS:
        if name not in taken:
            return name
    raise MoveFailed(
        f"{table.name} has no key, and columns named rowid, _rowid_ and oid, so that nothing tells "
        "its rows apart: give it a key, or rename one of them"
    )


def _table(connection: sqlite3.Connection, name: str, triggers: tuple[str, ...]) -> CatalogTable:
    info = [
        row
        for row in connection.execute("SELECT * FROM pragma_table_xinfo(?)", (name,))
        if row[6] != HIDDEN
    ]
    primary_key = [row[1] for row in sorted(info, key=lambda row: row[5]) if row[5]]
    not_null = {row[1] for row in info if row[3]}
    columns = []
    for _, column, declared, is_not_null, _, place, hidden in info:
        is_rowid = place and len(primary_key) == 1 and declared.upper() == "INTEGER"
        columns.append(
            CatalogColumn(
                column,
                declared,
                declared,
                is_nullable=not (is_not_null or is_rowid),
                generated=GENERATED.get(hidden, Generated.NO),
                identity=Identity.BY_DEFAULT if is_rowid else Identity.NO,
            )
        )
    unique_keys = _unique_keys(connection, name)
    if primary_key:
        unique_keys = [primary_key, *(key for key in unique_keys if key != primary_key)]
    key = next((key for key in unique_keys if key is primary_key or not_null >= set(key)), [])
    (rows,) = connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()
    return CatalogTable(
        TableName(None, name),
        tuple(columns),
        key=tuple(key),
        unique_keys=tuple(map(tuple, unique_keys)),
        foreign_keys=tuple(_foreign_keys(connection, name)),
        triggers=triggers,
        rows=rows,
    )


def _unique_keys(connection: sqlite3.Connection, table: str) -> list[list[str]]:
    keys = []
    for _, index, is_unique, _, is_partial in connection.execute(
        "SELECT * FROM pragma_index_list(?)", (table,)
    ).fetchall():
        names = [
            row[2] for row in connection.execute("SELECT * FROM pragma_index_info(?)", (index,))
        ]
        if is_unique and not is_partial and None not in names:  # None for an expression
            keys.append(names)
    return sorted(keys, key=lambda names: (len(names), names))


def _foreign_keys(connection: sqlite3.Connection, table: str) -> list[CatalogForeignKey]:
    """Return the foreign keys of a table, whatever the letter case that they are declared in: it
    means nothing to SQLite."""
    names = [name for (_, name, *_) in connection.execute("PRAGMA table_list")]
    parts = defaultdict(list)
    for row in connection.execute("SELECT * FROM pragma_foreign_key_list(?)", (table,)).fetchall():
        parts[row[0]].append(row)
    keys = []
    for number, rows in sorted(parts.items()):
        rows.sort(key=lambda row: row[1])
        target = _as_declared(rows[0][2], names)
        info = connection.execute("SELECT name, pk FROM pragma_table_info(?)", (target,)).fetchall()
        targets = [row[4] for row in rows]
        if None in targets:  # declared without columns: those of the primary key
            targets = [name for name, place in sorted(info, key=lambda row: row[1]) if place]
        else:
            targets = [_as_declared(name, [each for each, _ in info]) for name in targets]
        keys.append(
            CatalogForeignKey(
                f"{table}_{number}",
                tuple(row[3] for row in rows),
                TableName(None, target),
                tuple(targets),
            )
        )
    return keys


def _as_declared(name: str, names: Sequence[str]) -> str:
    """Return a name as the table or the column has it that is meant."""
    if name in names:
        return name
    return next((each for each in names if each.lower() == name.lower()), name)
