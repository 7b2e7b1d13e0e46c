"""The SQL that a Supabase project needs before an application's data can be stored in it."""

from collections.abc import Sequence
from importlib.resources import files

from sqlalchemy import Connection, MetaData

from amphibase.schema import change_log, create_tables, policies, policy_script, presence, triggers
from amphibase.schema.change_log_functions import SqlFunction, functions_of, missing_functions
from amphibase.schema.ddl import literal, quoted
from amphibase.schema.grants import ANON, AUTHENTICATED, COMMANDS, Grant, grant
from amphibase.schema.policies import TableRules

SERVICE_ROLE = "service_role"

BUCKET = "uploads"
"""Of uploads; it is there from the start."""

HEADER = """\
-- What the application needs in its Supabase project, as its models declare it. Written by
-- `amphibase supabase sql`; a migration of the project, to be applied once."""

GRANTS_COMMENT = """\
-- A project grants nothing on new tables since October 2026, and everything before: what is not
-- granted below is revoked. Each policy's own grants follow with it."""


def starter_sql(metadata: MetaData, buckets: Sequence[str] = ()) -> str:
    """Return the SQL script that prepares a project for an application.

    Args:
        metadata: the application's models, with the profiles of its users.
        buckets: of the application, beside `uploads`, in a project that has others; see
            `files_sql`.

    Raises:
        ConfigurationError: a model's access declaration is wrong.
    """
    sections = [
        HEADER,
        "-- Tables\n\n" + create_tables.script(metadata),
        GRANTS_COMMENT + "\n\n" + grants_sql(metadata),
        "-- Who may do what" + policy_script.body(metadata),
        "-- What every update sets\n\n" + triggers.script(metadata),
        *changes_sql(metadata),
        files_sql(buckets).strip(),
        presence_sql(),
        "-- The Data API reads the tables again\nNOTIFY pgrst, 'reload schema';",
    ]
    return "\n\n\n".join(sections) + "\n"


def changes_sql(metadata: MetaData) -> list[str]:
    """Return the section of the log of changes, where a model keeps one."""
    script = change_log.project_script(metadata)
    return ["-- The changes of rows, for those who follow them\n\n" + script] if script else []


def grants_sql(metadata: MetaData) -> str:
    """Return the statements that leave the tables to the service alone, before any policy."""
    statements = [f"GRANT USAGE ON SCHEMA public TO {ANON}, {AUTHENTICATED}, {SERVICE_ROLE}"]
    for rules in policies.declared(metadata):
        statements.append(f"REVOKE ALL ON {quoted(rules.table)} FROM {ANON}, {AUTHENTICATED}")
        statements += service_grants(rules)
    return "\n".join(f"{statement};" for statement in statements)


def service_grants(rules: TableRules) -> list[str]:
    """Return the statements that let the service use a table."""
    grants = [Grant(SERVICE_ROLE, command) for command in COMMANDS]
    if rules.key:
        grants.append(Grant(SERVICE_ROLE, "USAGE", rules.key))
    return grant(rules.table, grants)


def files_sql(buckets: Sequence[str] = ()) -> str:
    """Return the buckets, the policies and the function that files need.

    Args:
        buckets: beside `uploads`; then the policies are for these alone. Without any, they are for
            every bucket of the project.
    """
    names = [literal(name) for name in dict.fromkeys([BUCKET, *buckets])]
    listed = f" IN ({', '.join(names)})" if buckets else ""
    script = files(__package__).joinpath("files.sql").read_text()
    for placeholder, sql in {
        "{buckets}": ", ".join(f"({name}, {name})" for name in names),
        "{and_bucket}": listed and f" AND id{listed}",
        "{and_object}": listed and f" AND bucket_id{listed}",
    }.items():
        script = script.replace(placeholder, sql)
    return script


def presence_sql() -> str:
    """Return the tables of presence, and the functions that the service uses them by."""
    tables = ";\n".join(presence.create_statements("postgresql"))
    script = files(__package__).joinpath("presence.sql").read_text().strip()
    comment, _, functions = script.partition("\n\n")
    functions = functions.replace("{now}", presence.POSTGRES_NAMES["now"])
    return f"{comment}\n\n{tables};\n\n{functions}"


def missing_presence_functions(connection: Connection) -> list[SqlFunction]:
    """Return the functions of presence that a project does not have, or has in another version."""
    return missing_functions(connection, functions_of(presence_sql()))
