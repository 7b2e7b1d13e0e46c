"""`amphibase files`: files from the command line, as the service."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from amphibase.backend import SERVICE
from amphibase.cli.console import results, table
from amphibase.cli.loading import amphibase_of_app
from amphibase.errors import ConfigurationError, InvalidRequest, NotFound
from amphibase.http.app import Amphibase
from amphibase.http.state import State
from amphibase.services.files import UPLOADS

Result = TypeVar("Result")

CHUNK_BYTES = 1024 * 1024

app = typer.Typer(help="The files of the application.", no_args_is_help=True)
Application = Annotated[
    str | None, typer.Option("--app", metavar="MODULE:APP", help="Your application.")
]
Place = Annotated[str, typer.Argument(metavar="BUCKET/PATH", help="Which file.")]


@app.command()
def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Find, and delete nothing.")] = False,
    grace: Annotated[
        int, typer.Option(min=0, help="Minutes; bytes that are younger may belong to an upload.")
    ] = 60,
    lost: Annotated[
        bool, typer.Option("--lost", help="Also delete rows whose bytes are gone for good.")
    ] = False,
    application: Application = None,
) -> None:
    """Delete bytes that no row names, and report rows whose bytes are missing.

    Exit code 1 while there are rows without bytes.

    Example: amphibase files sweep --dry-run
    """

    async def work(state: State) -> dict[str, int]:
        counts = {"orphan": 0, "lost": 0}
        if not dry_run:
            state.uploads.expire()
        swept = state.backend.files.sweep(
            grace=timedelta(minutes=grace),
            delete_orphans=not dry_run,
            delete_lost=lost and not dry_run,
        )
        console = results()
        with Progress(
            TextColumn("[progress.description]{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ) as progress:
            task = progress.add_task("Looking", total=None)
            async for finding in swept.findings():
                counts[finding.kind] += 1
                console.print(f"{finding.kind}  {escape(finding.name)}  {decimal(finding.size)}")
                progress.update(task, description=f"Looked at {swept.examined}")
        return counts

    counts = _run(application, work)
    deleted = "" if dry_run else ", deleted"
    lost_deleted = ", deleted" if lost and not dry_run else ""
    results().print(
        f"{counts['orphan']} without a row{deleted}; "
        f"{counts['lost']} rows without bytes{lost_deleted}"
    )
    if counts["lost"] and not lost_deleted:
        raise typer.Exit(1)


@app.command("ls")
def list_files(
    place: Annotated[str, typer.Argument(metavar="[BUCKET[/PREFIX]]")] = UPLOADS,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at the most.")] = 100,
    application: Application = None,
) -> None:
    """List files, in the order of their paths.

    Example: amphibase files ls uploads/2026/
    """
    bucket, _, prefix = place.partition("/")
    page = _run(
        application, lambda state: state.files.list(SERVICE, bucket, prefix, limit=limit), place
    )
    files = table("path", "size", "type", "owner", "changed")
    for file in page.items:
        files.add_row(
            escape(file.path),
            decimal(file.size),
            file.content_type,
            str(file.owner_id or "–"),
            file.updated_at.isoformat(" ", "seconds"),
        )
    console = results()
    console.print(files)
    if page.next_cursor:
        console.print(f"There are more than these {limit}; ask for more with --limit")


@app.command()
def get(
    place: Place,
    target: Annotated[
        Path | None, typer.Argument(help="Where to; the file's own name here, if left out.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace what is there.")] = False,
    application: Application = None,
) -> None:
    """Fetch a file.

    Example: amphibase files get uploads/report.pdf ./report.pdf
    """
    bucket, path = _split(place)
    to = target or Path(path.rpartition("/")[2])
    if to.is_dir():
        to = to / path.rpartition("/")[2]
    if to.exists() and not force:
        raise InvalidRequest(f"{to} is there already; replace it with --force")

    async def work(state: State) -> int:
        opened = await state.files.open(SERVICE, bucket, path)
        unfinished = to.with_name(f".{to.name}.{os.getpid()}")
        try:
            with unfinished.open("wb") as out, _progress() as progress:
                task = progress.add_task(to.name, total=opened.file.size)
                async for chunk in opened.chunks:
                    out.write(chunk)
                    progress.advance(task, len(chunk))
            unfinished.replace(to)
        finally:
            unfinished.unlink(missing_ok=True)
        return opened.file.size

    size = _run(application, work, place)
    results().print(f"{escape(str(to))} has {decimal(size)}")


@app.command()
def put(
    source: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    place: Place,
    content_type: Annotated[
        str | None, typer.Option("--type", help="Found out, if left out.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace what is there.")] = False,
    application: Application = None,
) -> None:
    """Store a file without an owner: the service alone may change it.

    Example: amphibase files put ./report.pdf uploads/report.pdf
    """
    bucket, path = _split(place)
    if path.endswith("/"):
        path += source.name
    size = source.stat().st_size

    async def work(state: State) -> None:
        with _progress() as progress:
            task = progress.add_task(source.name, total=size)

            async def chunks() -> AsyncIterator[bytes]:
                with source.open("rb") as file:
                    while chunk := file.read(CHUNK_BYTES):
                        yield chunk
                        progress.advance(task, len(chunk))

            await state.files.put(
                SERVICE,
                bucket,
                path,
                chunks(),
                content_type=content_type,
                size=size,
                overwrite=force,
            )

    _run(application, work, place)
    results().print(f"{escape(f'{bucket}/{path}')} has {decimal(size)}")


@app.command("rm")
def remove(
    place: Place,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    application: Application = None,
) -> None:
    """Delete a file.

    Example: amphibase files rm uploads/report.pdf --yes
    """
    bucket, path = _split(place)
    if not yes:
        typer.confirm(f"Delete {place} for good?", abort=True)
    _run(application, lambda state: state.files.delete(SERVICE, bucket, path), place)
    results().print(f"{escape(place)} is deleted")


def _split(place: str) -> tuple[str, str]:
    bucket, _, path = place.partition("/")
    if not (bucket and path):
        raise ConfigurationError(f"{place!r} names no file; write bucket/path, as in uploads/a.txt")
    return bucket, path


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _run(
    application: str | None, work: Callable[[State], Awaitable[Result]], place: str = ""
) -> Result:
    async def started() -> Result:
        db = amphibase_of_app(application) if application else Amphibase()
        async with db.started() as state:
            try:
                return await work(state)
            except NotFound as error:  # which does not say to a client what is not there
                raise NotFound(f"{error.detail}: {place}") from None

    return asyncio.run(started())
