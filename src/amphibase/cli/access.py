"""`amphibase access`: what the models declare, and why somebody may do something with a row."""

import asyncio
import html
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.markup import escape
from sqlalchemy import inspect as inspect_model
from sqlalchemy.ext.asyncio import AsyncSession

from amphibase.backend import ANONYMOUS, SERVICE, Backend, Caller
from amphibase.cli.console import results, table
from amphibase.cli.loading import amphibase_of_app
from amphibase.database.engine import Database
from amphibase.errors import ConfigurationError, InvalidRequest, NotFound
from amphibase.models import Base
from amphibase.records.fields import fields_of
from amphibase.services.access import (
    Explanation,
    ModelRules,
    Verdict,
    declared_rules,
    model_named,
)
from amphibase.services.access import (
    explain as explain_access,
)
from amphibase.settings.application import Settings

app = typer.Typer(help="Who may do what with the rows of models.", no_args_is_help=True)
Application = Annotated[
    str, typer.Option("--app", metavar="MODULE:APP", help="Your application, to know its models.")
]
OPERATIONS = ("read", "add", "change", "delete")


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="The name of the class, or of its table.")],
    id: Annotated[str, typer.Argument(help="The key of the row; of several columns, with commas.")],
    who: Annotated[
        str, typer.Option("--as", help="The address of the caller, or anonymous, or service.")
    ],
    application: Application,
) -> None:
    """Print what a caller may do with a row: each operation, each rule, and what decided.

    Example: amphibase access explain Ticket 0198c1d2-… --as ann@example.com --app main:app
    """
    db = amphibase_of_app(application)

    async def explained() -> Explanation:
        chosen = model_named(Base.metadata, model)
        async with db.started() as state:
            caller = await _caller(state.backend, who)
            async with _session(state.backend, db.settings) as session:
                return await explain_access(session, chosen, _key(chosen, id), caller)

    explanation = asyncio.run(explained())
    console = results()
    console.print(f"{explanation.model.__name__} {escape(id)} as {escape(who)}")
    if explanation.is_deleted:
        console.print("It is softly deleted: it exists for with_deleted() alone")
    for operation in explanation.operations:
        console.print(f"{_mark(operation.admits)} {operation.operation}")
        for verdict in operation.rules:
            _print(console, verdict, 1)


@app.command()
def matrix(
    application: Application,
    html_path: Annotated[
        Path | None, typer.Option("--html", help="Write a page to this file instead.")
    ] = None,
) -> None:
    """Print the rules of every model, by operation.

    Example: amphibase access matrix --app main:app --html access.html
    """
    amphibase_of_app(application)
    rules = [*declared_rules(Base.metadata)]
    if html_path is not None:
        html_path.write_text(page(rules), encoding="utf-8")
        return
    models = table("model", "operations", "rule")
    for each in rules:
        rows = [*_grouped(each), *each.columns.items()]
        for place, (operations, rule) in enumerate(rows):
            models.add_row("" if place else each.model, operations, escape(rule))
        models.add_section()
    results().print(models)


def page(rules: list[ModelRules]) -> str:
    """Return the rules of models as a page of HTML."""
    heads = "".join(f"<th>{name}</th>" for name in ("model", *OPERATIONS, "columns"))
    rows = "\n".join(
        "<tr>"
        + f"<th>{html.escape(each.model)}<br><small>{html.escape(each.table)}</small></th>"
        + "".join(f"<td><code>{html.escape(rule)}</code></td>" for rule in each.rules)
        + "<td>"
        + "<br>".join(html.escape(f"{name}: {left}") for name, left in each.columns.items())
        + "</td></tr>"
        for each in rules
    )
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Access</title>\n'
        "<style>body{font:15px system-ui}table{border-collapse:collapse}"
        "th,td{border:1px solid #ccc;padding:6px;text-align:left;vertical-align:top}</style>\n"
        f"<table><tr>{heads}</tr>\n{rows}\n</table></html>\n"
    )


@asynccontextmanager
async def _session(backend: Backend, settings: Settings) -> AsyncIterator[AsyncSession]:
    """Open a session of the service where the records are.

    Raises:
        ConfigurationError: they are in a Supabase project, and its database is not named.
    """
    if backend.capabilities.sessions:
        async with backend.session(SERVICE, writes=False) as session:
            yield session
        return
    url = settings.database_of("records")
    if url is None:
        raise ConfigurationError(
            "Access is explained by queries that the Data API has no form of: set SUPABASE_DB_URL "
            "to the database of the project"
        )
    database = Database(url, settings.pool_options)
    try:
        async with database.session(writes=False) as session:
            yield session
    finally:
        await database.close()


def _grouped(rules: ModelRules) -> list[tuple[str, str]]:
    """Return the rules of a model, each with the operations that it is for."""
    operations: dict[str, list[str]] = {}
    for operation, rule in zip(OPERATIONS, rules.rules, strict=True):
        operations.setdefault(rule, []).append(operation)
    return [(", ".join(names), rule) for rule, names in operations.items()]


def _print(console: Console, verdict: Verdict, depth: int) -> None:
    indent = "  " * depth
    console.print(f"{indent}{_mark(verdict.admits)} {escape(verdict.rule)}")
    if verdict.reason:
        console.print(f"{indent}  [dim]{escape(verdict.reason)}[/dim]")
    for part in verdict.parts:
        _print(console, part, depth + 1)


def _mark(admits: bool) -> str:
    return "[green]✓[/green]" if admits else "[red]✗[/red]"


def _key(model: type[Any], text: str) -> list[Any]:
    names = [
        inspect_model(model).get_property_by_column(key).key
        for key in inspect_model(model).primary_key
    ]
    values = text.split(",")
    if len(values) != len(names):
        raise InvalidRequest(f"The key of {model.__name__} is ({', '.join(names)})")
    fields = fields_of(model)
    try:
        return [
            TypeAdapter(fields[name].input).validate_python(value)
            for name, value in zip(names, values, strict=True)
        ]
    except ValidationError:
        raise InvalidRequest(f"{text} is no key of {model.__name__}") from None


async def _caller(backend: Backend, who: str) -> Caller:
    if who in ("anonymous", "service"):
        return ANONYMOUS if who == "anonymous" else SERVICE
    account = await backend.accounts.get_by_email(who)
    if account is None:
        raise NotFound(f"There is no user {who}")
    claims = {
        "email": account.email,
        "app_metadata": account.app_metadata,
        "user_metadata": account.user_metadata,
    }
    return Caller("authenticated", account.id, claims=claims)
