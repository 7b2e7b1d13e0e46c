"""`amphibase advise`: what a database or a project says about the choice of a backend."""

import asyncio
import json
from dataclasses import asdict
from enum import StrEnum
from html import escape
from typing import TYPE_CHECKING, Annotated

import typer

from amphibase.errors import ConfigurationError, Unavailable

if TYPE_CHECKING:
    from sqlalchemy import URL

    from amphibase.schema.evidence import Evidence
    from amphibase.settings.application import Settings


class Report(StrEnum):
    """How the evidence is printed."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


HEADINGS = ("criterion", "found", "speaks for")

NOT_SHOWN = "size, triggers, extensions, policies, hashes, realtime"
"""What no API of a project shows."""


def advise(
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A Postgres, your own or a project's; DATABASE_URL by default."
        ),
    ] = None,
    supabase_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="A Supabase project, with its keys in SUPABASE_ANON_KEY and "
            "SUPABASE_SERVICE_KEY; its database too, with SUPABASE_DB_URL.",
        ),
    ] = None,
    output: Annotated[Report, typer.Option("--output", "-o", help="How to print it.")] = (
        Report.TABLE
    ),
) -> None:
    """Show what a database or a project says about the choice between the two.

    It reads the catalog, or what the project's API shows, and changes nothing. It recommends a side
    where all clear evidence is on it; the rest of the criteria are for you (docs/choosing.md).

    Example: amphibase advise --database-url postgresql://localhost/app -o html > advice.html
    """
    from amphibase.schema.evidence import recommended
    from amphibase.settings.application import load_settings

    if database_url and supabase_url:
        raise ConfigurationError("Pass --database-url or --supabase-url, and read them one by one")
    # As settings, so that a wrong one is one line, and a secret in none.
    if supabase_url:
        evidence = asyncio.run(_of_project(load_settings(supabase_url=supabase_url)))
    else:
        options = {"database_url": database_url} if database_url else {}
        evidence = asyncio.run(_of_database(load_settings(**options).database))
    side = recommended(evidence)
    verdict = f"Recommended: {side}" if side else "The evidence is not clear: the choice is yours"
    rows: list[tuple[str, str, str]] = [
        (each.criterion, each.found, each.speaks_for or "") for each in evidence
    ]
    match output:
        case Report.JSON:
            items = [asdict(each) for each in evidence]
            typer.echo(json.dumps({"recommended": side, "evidence": items}, indent=2))
        case Report.HTML:
            typer.echo(_html(rows, verdict))
        case _:
            _print(rows, verdict)


async def _of_database(url: "URL") -> "list[Evidence]":
    from amphibase.database.engine import Database, PoolOptions
    from amphibase.database.url import database_address
    from amphibase.schema.evidence import read_evidence

    if url.get_backend_name() != "postgresql":
        raise ConfigurationError(
            "Only a Postgres has evidence to show; pass --database-url or --supabase-url"
        )
    database = Database(url, PoolOptions(by_transaction=True))
    try:
        async with database.read() as connection:
            return await connection.run_sync(read_evidence)
    except Unavailable as error:
        raise ConfigurationError(f"{error.detail} ({database_address(url)})") from error
    finally:
        await database.close()


async def _of_project(settings: "Settings") -> "list[Evidence]":
    """Return what a project's API shows, and its database where that is known."""
    from amphibase.schema.evidence import Evidence
    from amphibase.supabase.client import SupabaseClient
    from amphibase.supabase.evidence import read_project
    from amphibase.supabase.project import SupabaseProject

    client = SupabaseClient(SupabaseProject.of(settings))
    try:
        evidence = await read_project(client)
    except Unavailable as error:
        raise ConfigurationError(f"{error.detail} ({settings.supabase_url})") from error
    finally:
        await client.close()
    if settings.supabase_database is None:
        return [*evidence, Evidence(NOT_SHOWN, "set SUPABASE_DB_URL to have it read")]
    more = await _of_database(settings.supabase_database)
    return [*{each.criterion: each for each in (*evidence, *more)}.values()]


def _print(rows: list[tuple[str, str, str]], verdict: str) -> None:
    from rich.markup import escape as escape_markup

    from amphibase.cli.console import results, table

    evidence = table(*HEADINGS)
    for row in rows:
        evidence.add_row(*map(escape_markup, row))
    console = results()
    console.print(evidence)
    console.print(verdict)


def _html(rows: list[tuple[str, str, str]], verdict: str) -> str:
    def line(tag: str, cells: tuple[str, ...]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join([line("th", HEADINGS), *(line("td", row) for row in rows)])
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        "<title>Choosing a backend</title>\n"
        f"<table>\n{body}\n</table>\n<p>{escape(verdict)}</p>\n</html>"
    )
