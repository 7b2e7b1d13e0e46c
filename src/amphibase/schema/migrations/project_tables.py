"""Writes `schema/project_tables.sql`: what the packaged revisions create in a new project, as one
script, by Alembic's offline mode.

A new project takes the script, which needs neither Alembic nor SQLAlchemy; one of an earlier
version runs the revisions that it lacks. Run this module after a change of the revisions; a test
compares the file with what it prints.
"""

import re
from io import StringIO
from typing import Literal

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from amphibase.private_names.alembic import upgrade_steps
from amphibase.schema.ddl import DIALECT
from amphibase.schema.migrations import roles
from amphibase.schema.migrations.locations import HERE, postgres_location
from amphibase.schema.table_lock import LOCK

HEADER = f"""\
-- The tables of a new project. Written by `make project-tables` from the revisions: do not edit.

SELECT pg_advisory_xact_lock({LOCK});  -- as every change of tables
"""

NO_BUCKETS = """\
-- The bucket of Amphibase's own applications; a project begins without any.
DELETE FROM storage.buckets;
"""


def project_tables() -> str:
    """Return the script; to be run in a transaction, on Postgres."""
    functions = [f"{statement};\n" for statement in roles.missing_functions()]
    return "\n".join([HEADER, _revisions("auth"), *functions, _revisions("storage"), NO_BUCKETS])


def _revisions(chain: Literal["auth", "storage"]) -> str:
    """Write the revisions of a chain as SQL."""
    location = postgres_location(chain)
    script = ScriptDirectory(HERE, version_locations=location.folders)
    steps = upgrade_steps(script, "head", ())
    output = StringIO()
    context = MigrationContext.configure(
        dialect=DIALECT,
        opts={
            "as_sql": True,
            "output_buffer": output,
            "fn": lambda heads, context: steps,
            "version_table": location.version_table,
            "version_table_schema": location.schema,
        },
    )
    with Operations.context(context):
        context.run_migrations()
    sql = re.sub(" +$", "", output.getvalue(), flags=re.MULTILINE)
    return f"CREATE SCHEMA IF NOT EXISTS {location.schema};\n\n{sql.rstrip()}\n"


if __name__ == "__main__":
    print(project_tables(), end="")
