"""Tells soft deletions from other changes, for which Postgres has one policy.

Where a rule lets some delete what they may not change, or the other way round, the policy for
UPDATE admits both, and a trigger decides as that policy would: rows that the caller may not touch
are left out, and a new row that they may not leave so is an error.
"""

from amphibase.access.conditions import Condition, Never
from amphibase.records.model_access import ModelAccess
from amphibase.schema.condition_sql import Row, condition_sql
from amphibase.schema.ddl import PREFIX, literal, name_within, quoted
from amphibase.schema.grants import ANON, AUTHENTICATED, ROLES
from amphibase.schema.policies import TableRules
from amphibase.schema.role_conditions import for_role

CHANGED = ("deleted_at", "updated_at", "version")
"""The columns that a soft deletion changes, besides those that every change sets (`onupdate`)."""

# The names of tables mean what they mean where the table is. Types of extensions are in the schema
# where Supabase has them; the caller's own temporary tables come last. Rows are compared as they
# are stored: json has no comparison, and one with a \u0000 cannot become jsonb. What the database
# computes is not there before it has; the table may have such columns that the model does not.
_BODY = """
DECLARE
    is_deletion boolean := OLD.deleted_at IS DISTINCT FROM NEW.deleted_at;
    is_change boolean;
    stored text;
    rest record := NEW;
BEGIN
{kept}    is_change := NOT is_deletion OR rest *<> OLD;
    IF is_deletion AND is_change THEN
        SELECT pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ') INTO STRICT stored
        FROM pg_catalog.pg_attribute
        WHERE attrelid = TG_RELID AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
            AND attname <> ALL ({names});
        EXECUTE 'SELECT (SELECT ROW(' || stored || ') FROM (SELECT ($1).*) AS new) *<> '
            '(SELECT ROW(' || stored || ') FROM (SELECT ($2).*) AS old)'
            INTO STRICT is_change USING NEW, OLD;
    END IF;
    PERFORM pg_catalog.set_config(
        'search_path', pg_catalog.quote_ident(TG_TABLE_SCHEMA) || ', extensions, pg_temp', true
    );
{checks}    RETURN NEW;
END """

_CHECK = """\
    IF is_deletion AND ({delete}) IS NOT TRUE OR is_change AND ({old}) IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    IF is_change AND ({new}) IS NOT TRUE THEN
        RAISE EXCEPTION USING
            ERRCODE = 'insufficient_privilege',
            MESSAGE = 'new row violates row-level security policy for table ' || {table};
    END IF;
"""


def function_name(rules: TableRules) -> str:
    """Return the name of the function of a table, and of its trigger."""
    return name_within(PREFIX, rules.table, "_soft_delete")


def function_body(rules: TableRules) -> str:
    """Return the body of the function of a table, in PL/pgSQL."""
    assert rules.access is not None
    checks = {role: _check(rules, rules.access, role) for role in ROLES}
    text = checks[AUTHENTICATED]
    if not isinstance(for_role(rules.access.change_old, ANON), Never) or not isinstance(
        for_role(rules.access.delete, ANON), Never
    ):
        text = (
            f"    IF CURRENT_USER = {literal(ANON)} THEN\n{_indented(checks[ANON])}"
            f"    ELSE\n{_indented(checks[AUTHENTICATED])}    END IF;\n"
        )
    names = [
        column.name
        for column in rules.source.columns
        if column.name in CHANGED or column.onupdate is not None or column.computed is not None
    ]
    kept = [f"    rest.{quoted(name)} := OLD.{quoted(name)};\n" for name in names]
    listed = f"ARRAY[{', '.join(map(literal, names))}]"
    return _BODY.format(kept="".join(kept), names=listed, checks=text)


def _check(rules: TableRules, access: ModelAccess, role: str) -> str:
    return _CHECK.format(
        delete=_sql(rules, access.delete, role, "OLD"),
        old=_sql(rules, access.change_old, role, "OLD"),
        new=_sql(rules, access.change_new, role, "NEW"),
        table=literal(quoted(rules.table)),
    )


def _sql(rules: TableRules, condition: Condition, role: str, row: str) -> str:
    return condition_sql(for_role(condition, role), Row(rules.source, row)).replace(
        "\n", "\n" + 8 * " "
    )


def _indented(lines: str) -> str:
    return "".join(f"    {line}\n" for line in lines.splitlines())
