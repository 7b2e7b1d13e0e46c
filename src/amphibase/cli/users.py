"""`amphibase users`: people, from the command line."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer
from pydantic import TypeAdapter, ValidationError
from rich.markup import escape

from amphibase.backend import FOREVER
from amphibase.cli.console import results, table
from amphibase.cli.loading import amphibase_of_app
from amphibase.errors import ConfigurationError, InvalidRequest, NotFound
from amphibase.http.app import Amphibase
from amphibase.http.schemas import Email
from amphibase.http.state import State
from amphibase.services.users import Orphan

Result = TypeVar("Result")

app = typer.Typer(help="The users of the application.", no_args_is_help=True)
Application = Annotated[
    str | None,
    typer.Option("--app", metavar="MODULE:APP", help="Your application, if it has its own User."),
]
Password = Annotated[
    str | None,
    typer.Option(
        envvar="AMPHIBASE_PASSWORD",
        help="Prompted for where missing; on a pipe, read from standard input.",
    ),
]
Who = Annotated[str, typer.Argument(help="The id or the address.")]


@app.command()
def create(
    email: Annotated[str, typer.Argument(help="The address.")],
    name: Annotated[str, typer.Option(help="What to call them.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="Make them an administrator.")] = False,
    password: Password = None,
    application: Application = None,
) -> None:
    """Make a user whose address counts as confirmed.

    Example: amphibase users create ann@example.com --name Ann --admin
    """
    address = _address(email)
    secret = password or _ask_password()
    user = _run(
        application,
        lambda state: state.users.create(address, password=secret, name=name, admin=admin),
    )
    results().print(f"{user.email} has the id {user.id}" + (", an administrator" if admin else ""))


@app.command("list")
def list_users(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at the most.")] = 100,
    application: Application = None,
) -> None:
    """List users, newest first.

    Example: amphibase users list --limit 20
    """
    page = _run(application, lambda state: state.users.page(limit=limit))
    users = table("id", "email", "name", "active", "created")
    for user in page.items:
        created = user.created_at.isoformat(" ", "seconds")
        users.add_row(
            str(user.id),
            escape(user.email),
            escape(user.name),
            "yes" if user.is_active else "no",
            created,
        )
    console = results()
    console.print(users)
    if page.next_cursor:
        console.print(f"There are more than these {limit}; ask for more with --limit")


@app.command()
def invite(
    email: Annotated[str, typer.Argument(help="The address.")],
    name: Annotated[str, typer.Option(help="What to call them.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="Make them an administrator.")] = False,
    application: Application = None,
) -> None:
    """Invite a user by email.

    Example: amphibase users invite ann@example.com
    """
    address = _address(email)
    _run(application, lambda state: state.users.invite(address, name=name, admin=admin))
    results().print(f"{address} is invited")


@app.command()
def promote(
    who: Who,
    demote: Annotated[bool, typer.Option("--demote", help="Take the role back.")] = False,
    application: Application = None,
) -> None:
    """Make a user an administrator, which ends their sessions.

    Example: amphibase users promote ann@example.com
    """

    async def work(state: State) -> Any:
        return await state.users.administrate(await _id(state, who), admin=not demote)

    user = _run(application, work)
    results().print(f"{user.email} is {'no longer' if demote else 'now'} an administrator")


@app.command("set-password")
def set_password(who: Who, password: Password = None, application: Application = None) -> None:
    """Set a user's password, which ends their sessions and every link that was sent to them.

    Example: amphibase users set-password ann@example.com
    """
    secret = password or _ask_password()

    async def work(state: State) -> Any:
        return await state.users.administrate(await _id(state, who), password=secret)

    user = _run(application, work)
    results().print(f"{user.email} has a new password")


@app.command()
def ban(
    who: Who,
    days: Annotated[
        float | None, typer.Option(min=0.001, max=36500, help="How long; for good when left out.")
    ] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Lift the ban instead.")] = False,
    application: Application = None,
) -> None:
    """Ban a user, which ends their sessions, or lift a ban.

    Example: amphibase users ban ann@example.com --days 7
    """
    duration = None if lift else timedelta(days=days) if days else FOREVER

    async def work(state: State) -> Any:
        return await state.users.ban(await _id(state, who), duration)

    user = _run(application, work)
    results().print(f"{user.email} {'may sign in again' if lift else 'is banned'}")


@app.command()
def delete(
    who: Who,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    application: Application = None,
) -> None:
    """Delete a user with their account, profile and sessions.

    Example: amphibase users delete ann@example.com --yes
    """
    if not yes:
        typer.confirm(f"Delete {who} for good?", abort=True)

    async def work(state: State) -> None:
        await state.users.delete(await _id(state, who))

    _run(application, work)
    results().print(f"{who} is deleted")


@app.command()
def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Find, and delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    application: Application = None,
) -> None:
    """Delete profiles whose account is gone, with the rows and files that go with them.

    Exit code 1 while there are profiles without an account.

    Example: amphibase users sweep --dry-run
    """

    if not (dry_run or yes):
        typer.confirm(
            "Delete profiles without an account, their rows and files, for good?", abort=True
        )

    async def work(state: State) -> list[Orphan]:
        return [orphan async for orphan in state.users.sweep(delete=not dry_run)]

    orphans = _run(application, work)
    console = results()
    remaining = [orphan for orphan in orphans if not orphan.deleted]
    for orphan in remaining:
        why = "" if dry_run else ": other rows refer to it, so it is only deactivated"
        console.print(f"{orphan.id} has no account{why}")
    files = sum(orphan.files for orphan in orphans)
    deleted = len(orphans) - len(remaining)
    console.print(f"{len(orphans)} without an account, with {files} files; {deleted} deleted")
    if remaining:
        raise typer.Exit(1)


def _address(email: str) -> str:
    try:
        return TypeAdapter[str](Email).validate_python(email)
    except ValidationError:
        raise InvalidRequest(f"{email} is not an email address") from None


async def _id(state: State, who: str) -> UUID:
    try:
        return UUID(who)
    except ValueError:
        account = await state.backend.accounts.get_by_email(who)
    if account is None:
        raise NotFound(f"There is no user {who}")
    return account.id


def _ask_password() -> str:
    if not sys.stdin.isatty():
        if line := sys.stdin.readline().rstrip("\n"):
            return line
        raise ConfigurationError(
            "There is no password: pipe one, set AMPHIBASE_PASSWORD, or use --password"
        )
    password: str = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    return password


def _run(application: str | None, work: Callable[[State], Awaitable[Result]]) -> Result:
    async def started() -> Result:
        db = amphibase_of_app(application) if application else Amphibase()
        async with db.started() as state:
            return await work(state)

    return asyncio.run(started())
