"""From a database to the executor that suits it."""

from amphibase.database.caller_roles import CallerRoles
from amphibase.database.engine import Database
from amphibase.database.executor import EngineExecutor


def build_executor(database: Database, *, rls: bool) -> EngineExecutor:
    """Build the executor for a database.

    Args:
        rls: whether policies of the database decide who sees what.
    """
    roles = CallerRoles(rls)
    if database.pipeline is None:
        return EngineExecutor(database, roles)
    from amphibase.database.pipeline_executor import PipelineExecutor  # brings Postgres's driver

    return PipelineExecutor(database, roles, database.pipeline)
