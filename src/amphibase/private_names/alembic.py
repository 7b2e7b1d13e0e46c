"""Alembic's private names."""

from typing import Any

from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _repr_type
from alembic.script import ScriptDirectory

USED = {
    "alembic.script.ScriptDirectory._upgrade_revs": "schema/migrations/chains.py",
    "alembic.script.ScriptDirectory._downgrade_revs": "schema/migrations/chains.py",
    "alembic.autogenerate.render._repr_type": "schema/migrations/revision_file.py",
}


def upgrade_steps(script: ScriptDirectory, target: str, current: Any) -> list[Any]:
    """Return the steps from the current revisions up to the target."""
    return script._upgrade_revs(target, current)


def downgrade_steps(script: ScriptDirectory, target: str, current: Any) -> list[Any]:
    """Return the steps from the current revisions down to the target."""
    return script._downgrade_revs(target, current)


def render_type(type_: Any, context: AutogenContext) -> str:
    """Write a type as the code of a revision."""
    return _repr_type(type_, context)
