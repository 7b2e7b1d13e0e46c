"""GET /users/me on Amphibase beside fastapi-users, on one Postgres: throughput, and p99 latency
while people sign in. A bare ASGI application that reads one user by id is shown as the floor.
"""

from __future__ import annotations

import tempfile
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import httpx
import orjson
import psycopg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bench import environment, machine, report
from bench.load import Stream, request
from bench.report import Bar, Measurement
from bench.servers import (
    Server,
    amphibase,
    database_server,
    install,
    peer,
    postgres_version,
    with_driver,
)

PEER = "fastapi-users"
FLOOR = "raw ASGI"
USERS = 16
PASSWORD = "correct horse battery 7"
POOL_SIZE = "32"
READERS = 32
PACED_READERS = 8
PACED_READS = 50.0
SIGN_INS = 4.0
CEILING_SECONDS = 2.0
OUR_PACKAGES = ("amphibase", "fastapi", "starlette", "pydantic", "uvicorn", "uvloop", "httptools")
DATABASE_PACKAGES = ("sqlalchemy", "psycopg", "argon2-cffi")
FLOOR_TABLE = """
CREATE TABLE users (
    id uuid PRIMARY KEY,
    email text NOT NULL UNIQUE,
    name text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass(slots=True)
class Side:
    """One server with its users: the requests that read a user, and those that sign one in."""

    server: Server
    reads: list[str] = field(default_factory=list)
    sign_ins: list[str] = field(default_factory=list)


def email(number: int) -> str:
    """The address of a user."""
    return f"user-{number}@example.com"


def our_side(server: Server) -> Side:
    """Sign the users up with Amphibase."""
    side = Side(server)
    with httpx.Client() as client:
        for number in range(USERS):
            credentials = {"email": email(number), "password": PASSWORD}
            person = credentials | {"name": f"User {number}"}
            response = server.call(client, "POST", "/auth/sign-up", 201, json=person)
            token = response.get("access_token", "")
            check(server, client, number, token)
            side.reads.append(request("GET", "/users/me", token=token))
            body = orjson.dumps(credentials).decode()
            side.sign_ins.append(request("POST", "/auth/sign-in", body=body))
    return side


def peer_side(server: Server) -> Side:
    """Register the users with fastapi-users and sign them in."""
    side = Side(server)
    with httpx.Client() as client:
        for number in range(USERS):
            person = {"email": email(number), "password": PASSWORD}
            server.call(client, "POST", "/auth/register", 201, json=person)
            form = {"username": email(number), "password": PASSWORD}
            response = server.call(client, "POST", "/auth/jwt/login", 200, form=form)
            token = response.get("access_token", "")
            check(server, client, number, token)
            side.reads.append(request("GET", "/users/me", token=token))
            body = urlencode(form)
            side.sign_ins.append(request("POST", "/auth/jwt/login", body=body, form=True))
    return side


def floor_side(server: Server, url: str) -> Side:
    """Put the users in the floor's table; their ids are their numbers as UUIDs."""
    users = [(uuid.UUID(int=n), email(n), f"User {n}") for n in range(USERS)]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(FLOOR_TABLE)
        cursor.executemany("INSERT INTO users (id, email, name) VALUES (%s, %s, %s)", users)
    return Side(server, [request("GET", f"/users/{uuid.UUID(int=n)}") for n in range(USERS)])


def check(server: Server, client: httpx.Client, number: int, token: str) -> None:
    """The right user has to come back before anything is measured."""
    seen = server.call(client, "GET", "/users/me", 200, token=token).get("email")
    if seen != email(number):
        raise server.error(f"GET /users/me responded with {seen!r}, not {email(number)!r}")


def throughput(side: Side, seconds: float, into: Measurement) -> None:
    """As many reads as the server responds to."""
    result = side.server.drive([Stream("reads", side.reads, READERS)], seconds)
    into.add(side.server.name, result.streams["reads"].rate, result)


def latency(side: Side, seconds: float, into: Measurement) -> None:
    """Reads on a fixed schedule while sign-ins come on theirs."""
    streams = [
        Stream("reads", side.reads, PACED_READERS, PACED_READS),
        Stream("sign-ins", side.sign_ins, int(SIGN_INS), SIGN_INS),
    ]
    result = side.server.drive(streams, seconds)
    into.add(side.server.name, result.streams["reads"].p99, result)


def run(rounds: int, seconds: float, console: Console) -> bool:
    """Measure, show and write; whether both bars are met."""
    fast = Measurement(
        f"GET /users/me, {READERS} connections", "requests/s", (Bar(PEER, "at least", 6.0),)
    )
    steady = Measurement(
        f"p99 of GET /users/me at {PACED_READS:g}/s while {SIGN_INS:g}/s sign in",
        "ms",
        (Bar(PEER, "at most", 1 / 3),),
    )
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with ExitStack() as stack:
        progress = stack.enter_context(
            Progress(*columns, console=console, transient=True, refresh_per_second=2)
        )
        task = progress.add_task("the peers' environment", total=3 + rounds * 5)

        def step(description: str) -> None:
            progress.update(task, advance=1, description=description)

        found = machine.facts()
        environment.make()
        machine.pin(0, machine.OTHER_CORES)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="amphibase-bench-")))
        scratch.chmod(0o711)  # a Postgres started by root runs as another user
        step("starting the servers")
        postgres = stack.enter_context(database_server(scratch))
        urls = {name: postgres.create_database(name) for name in ("ours", "peer", "floor")}
        secret = {"SECRET_KEY": uuid.uuid4().hex * 2, "POOL_SIZE": POOL_SIZE}
        theirs = secret | {"DATABASE_URL": with_driver(urls["peer"], "postgresql+asyncpg")}
        bare = secret | {"DATABASE_URL": with_driver(urls["floor"], "postgresql")}
        our_server = stack.enter_context(amphibase(install(urls["ours"], scratch)))
        peer_server = stack.enter_context(peer(PEER, "fastapi_users_app:app", theirs, scratch))
        floor_server = stack.enter_context(peer(FLOOR, "raw_asgi:app", bare, scratch))
        step("signing users up")
        ours, peers = our_side(our_server), peer_side(peer_server)
        floor = floor_side(floor_server, urls["floor"])
        step("the load generator's own ceiling")
        fixed = [Stream("fixed", [request("GET", "/")], READERS)]
        ceiling = floor_server.drive(fixed, CEILING_SECONDS)
        for number in range(1, rounds + 1):
            for side in (ours, peers, floor):
                step(f"round {number} of {rounds}: requests/s of {side.server.name}")
                throughput(side, seconds, fast)
            for side in (ours, peers):
                step(f"round {number} of {rounds}: p99 of {side.server.name}")
                latency(side, seconds, steady)
        versions = {
            "ours": machine.installed(*OUR_PACKAGES, *DATABASE_PACKAGES),
            "peers": environment.versions(),
            "postgres": postgres_version(urls["ours"]),
        }

    settings = {"rounds": rounds, "seconds": seconds, "users": USERS}
    return report.finish(
        "users",
        [fast, steady],
        ceiling,
        console,
        machine=found,
        versions=versions,
        settings=settings,
    )
