"""Writes a plan as the file that people read and edit, with what they need to know beside it."""

import re
from pathlib import Path
from typing import Any

import tomlkit
from pydantic import BaseModel
from tomlkit.items import AoT, Table

from amphibase.errors import ConfigurationError
from amphibase.move.plan import Plan, TablePlan

HEAD = """\
What moves from where to where. Edit it as you need; `amphibase move check` reads it again.
It holds no secret: passwords and keys come from the environment (SOURCE_…, TARGET_…).
"""

ACCOUNTS = """\
Accounts with ids, password hashes, confirmations, metadata and bans. `identities` are those of
OAuth providers, `factors` those of TOTP, `sessions` whether people stay signed in.
same_address: of addresses that differ by case alone, "ask" stops, "first" and "last" keep one.
"""

OWN_TABLE = """\
The source's own table of users. `profile` is its columns = those of the target's profiles.
"""

FILES = (
    "The buckets whose files move: bytes, types, owners, metadata. Leave out a line to keep one."
)

TABLES = """\
A table each, in an order that its foreign keys allow. `columns` is source = target: delete a line
that shall not move, write another name on the right to rename. `merge = true` allows rows on the
target that are not of this move. `triggers` are the target's: "off" or "fire" for rows that arrive.
"""

SEQUENCES = """\
Sequences that no column counts by, such as one for the numbers of invoices: those of the target go
on where the source's are.
"""

MAPPINGS = """\
Ids that are numbers on the source and UUIDs on the target, the same at each run. `table` holds
old_id and new_id on the target afterwards. In a table, `ids` names the columns that refer to them.
"""

NOT_MOVED = "What does not move, and why. These lines are for people and for the report."

VERIFY = """\
probe_account: whether an account is made on the target, signed in, and removed again.
"""


def write_plan(plan: Plan, path: Path, schema_command: str | None = None) -> None:
    """Write a plan to a file that does not exist yet.

    Args:
        schema_command: what writes the source's schema objects, which do not move.

    Raises:
        ConfigurationError: there is such a file, or it cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(format_plan(plan, schema_command))
    except FileExistsError:
        raise ConfigurationError(
            f"{path} exists already; delete it, or write to another file with --output"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from None


def format_plan(plan: Plan, schema_command: str | None = None) -> str:
    """Return the text of a plan's file."""
    document = tomlkit.document()
    _comment(document, HEAD)
    document.add("version", tomlkit.item(plan.version))
    document.add("name", tomlkit.item(plan.name))
    if plan.sequences:
        document.add(tomlkit.nl())
        _comment(document, SEQUENCES)
        document.add("sequences", _value([*plan.sequences]))
    document.add(tomlkit.nl())
    document.add("source", _table(plan.source))
    document.add("target", _table(plan.target))
    if plan.accounts is not None:
        comment = ACCOUNTS + (OWN_TABLE if plan.accounts.table else "")
        document.add("accounts", _table(plan.accounts, comment))
    if plan.files is not None:
        document.add("files", _table(plan.files, FILES))
    if plan.mappings:
        mappings = tomlkit.table(is_super_table=True)
        for position, (name, mapping) in enumerate(plan.mappings.items()):
            mappings.add(name, _table(mapping, MAPPINGS if position == 0 else ""))
        document.add("mappings", mappings)
    if plan.tables:
        document.add("tables", _tables(plan.tables))
    if plan.not_moved:
        comment = NOT_MOVED
        if schema_command:
            comment += f"\n{schema_command}"
        listed = tomlkit.aot()
        for position, each in enumerate(plan.not_moved):
            listed.append(_table(each, comment if position == 0 else ""))
        document.add("not_moved", listed)
    document.add("verify", _table(plan.verify, VERIFY))
    return re.sub(r"\n{3,}", "\n\n", tomlkit.dumps(document)).rstrip() + "\n"


def _tables(tables: tuple[TablePlan, ...]) -> AoT:
    listed = tomlkit.aot()
    for position, each in enumerate(tables):
        listed.append(_table(each, TABLES if position == 0 else ""))
    return listed


def _table(part: BaseModel, comment: str = "") -> Table:
    table = tomlkit.table()
    _comment(table, comment)
    values = part.model_dump(mode="json", exclude_none=True)
    columns = values.pop("columns", None)
    for name, value in values.items():
        if value != {}:
            table.add(name, _value(value))
    if columns:  # a line for each, since these are what people edit
        table.add("columns", _lines(columns))
    else:
        table.add(tomlkit.nl())
    return table


def _lines(values: dict[str, Any]) -> Table:
    table = tomlkit.table()
    for name, value in values.items():
        table.add(name, _value(value))
    table.add(tomlkit.nl())
    return table


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        inline = tomlkit.inline_table()
        for name, each in value.items():
            inline.add(name, _value(each))
        return inline
    if isinstance(value, list):
        array = tomlkit.array()
        array.extend(value)
        return array.multiline(len(str(value)) > 80)
    return tomlkit.item(value)


def _comment(container: Any, text: str) -> None:
    for line in text.splitlines():
        container.add(tomlkit.comment(line))
