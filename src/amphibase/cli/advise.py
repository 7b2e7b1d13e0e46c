"""`amphibase advise`: what a database says about the choice of a backend."""

import asyncio
import json
from dataclasses import asdict
from enum import StrEnum
from html import escape
from typing import Annotated

import typer

from amphibase.errors import ConfigurationError


class Report(StrEnum):
    """How the evidence is printed."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


HEADINGS = ("criterion", "found", "speaks for")


def advise(
    database_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A Postgres, your own or a project's; DATABASE_URL by default."
        ),
    ] = None,
    output: Annotated[Report, typer.Option("--output", "-o", help="How to print it.")] = (
        Report.TABLE
    ),
) -> None:
    """Show what a database says about the choice between it and Supabase.

    It reads the catalog and changes nothing. It recommends a side where all clear evidence is on
    it; the rest of the criteria are for you (docs/choosing.md).

    Example: amphibase advise --database-url postgresql://localhost/app -o html > advice.html
    """
    from amphibase.database.engine import Database
    from amphibase.schema.evidence import Evidence, read_evidence, recommended
    from amphibase.settings import load_settings

    # As a setting, so that a wrong one is one line, and a secret in none.
    url = load_settings(**({"database_url": database_url} if database_url else {})).database
    if url.get_backend_name() != "postgresql":
        raise ConfigurationError("Only a Postgres has evidence to show; pass --database-url")

    async def read() -> list[Evidence]:
        database = Database(url)
        try:
            async with database.read() as connection:
                return await connection.run_sync(read_evidence)
        finally:
            await database.close()

    evidence = asyncio.run(read())
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


def _print(rows: list[tuple[str, str, str]], verdict: str) -> None:
    from rich.console import Console
    from rich.markup import escape as escape_markup
    from rich.table import Table

    table = Table(*HEADINGS)
    for row in rows:
        table.add_row(*map(escape_markup, row))
    console = Console()
    console.print(table)
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
