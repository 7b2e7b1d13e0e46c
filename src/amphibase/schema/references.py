"""Has callers refer to rows that they see alone, where a foreign key takes any row.

A foreign key looks past all policies, so its error tells that a row exists, and a row that refers
to another keeps it from being deleted. A trigger therefore looks for the row that is referred to
as its caller, and raises what the foreign key would for a row that does not exist. It does so
after the statement, as foreign keys do, and for references that are set or change.

Its function is STABLE: it does not see what the statement has written (Postgres docs, "Visibility
of Data Changes"), since a row must not give the right to refer to what it makes visible. Rows of a
tree refer to others of the same statement, so these are seen: what a caller reads of a table
depends on no row of this table.
"""

from collections.abc import Iterator, Sequence

from amphibase.access.conditions import IsAlive, RefersTo, conjuncts
from amphibase.schema.condition_sql import Row, condition_sql
from amphibase.schema.ddl import PREFIX, literal, name_within, quoted
from amphibase.schema.policies import TableRules

_BODY = """
DECLARE
    referred text;
    keys text[];
    constraint_name text;
BEGIN
    PERFORM pg_catalog.set_config(
        'search_path', pg_catalog.quote_ident(TG_TABLE_SCHEMA) || ', extensions, pg_temp', true
    );
{checks}    IF referred IS NULL THEN
        RETURN NULL;
    END IF;
    SELECT conname INTO constraint_name FROM pg_catalog.pg_constraint
    WHERE conrelid = TG_RELID AND contype = 'f' AND conkey = ARRAY(
        SELECT attnum FROM pg_catalog.unnest(keys) WITH ORDINALITY AS key(name, place)
        JOIN pg_catalog.pg_attribute ON attrelid = TG_RELID AND attname = name ORDER BY place
    );
    RAISE EXCEPTION USING
        ERRCODE = 'foreign_key_violation',
        MESSAGE = pg_catalog.format(
            'insert or update on table "%s" violates foreign key constraint "%s"',
            TG_TABLE_NAME, constraint_name
        ),
        DETAIL = pg_catalog.format('Key is not present in table "%s".', referred),
        SCHEMA = TG_TABLE_SCHEMA, TABLE = TG_TABLE_NAME, CONSTRAINT = constraint_name;
END """

_CHECK = """\
    IF {is_set} AND (TG_OP = 'INSERT' OR {changes}) THEN
        referred := {table};
        keys := ARRAY[{keys}];
        IF pg_catalog.has_column_privilege({quoted_table}, {column}, 'SELECT') THEN
            PERFORM FROM {source} WHERE {same};
            IF FOUND THEN
                referred := NULL;
            END IF;
        END IF;
    END IF;
"""


def reference_functions(rules: TableRules) -> Iterator[tuple[str, str, bool]]:
    """Yield the functions of a table's triggers.

    Returns:
        The name of each, its body in PL/pgSQL, and whether it is STABLE.
    """
    if rules.access is None or not rules.access.is_writable:
        return
    for is_of_tree, end in ((False, "_references"), (True, "_tree")):
        some = [each for each in rules.access.references if each.is_of_tree is is_of_tree]
        if some:
            yield name_within(PREFIX, rules.table, end), _body(some), not is_of_tree


def _body(references: Sequence[RefersTo]) -> str:
    checks = [_check(references[0])]
    for reference in references[1:]:
        rest = _check(reference).removesuffix("\n").replace("\n", "\n    ")
        checks.append(f"    IF referred IS NULL THEN\n    {rest}\n    END IF;\n")
    return _BODY.format(checks="".join(checks))


def _check(reference: RefersTo) -> str:
    """Return the statements that leave the name of the other table in `referred` if the caller
    does not see the row."""
    columns = [quoted(column.name) for column in reference.columns]
    table = quoted(reference.table.name)
    same = [
        f"amphibase_referred.{quoted(other.name)} = NEW.{column}"
        for column, other in zip(columns, reference.referred, strict=True)
    ]
    # The other table's own policy for SELECT holds without being written.
    row = Row(reference.table, "amphibase_referred")
    alive = [each for each in conjuncts(reference.condition) if isinstance(each, IsAlive)]
    same += [condition_sql(each, row) for each in alive]
    return _CHECK.format(
        is_set=" AND ".join(f"NEW.{column} IS NOT NULL" for column in columns),
        changes=" OR ".join(f"OLD.{column} IS DISTINCT FROM NEW.{column}" for column in columns),
        table=literal(reference.table.name),
        quoted_table=literal(table),
        keys=", ".join(literal(column.name) for column in reference.columns),
        column=literal(reference.referred[0].name),
        source=f"{table} AS amphibase_referred",
        same=" AND ".join(same),
    )
