"""PgBouncer before the database, as hosts have it and as Supabase's pooler is on port 6543."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text
from tests.backends import SECRET
from tests.commands import run
from tests.conftest import prepared_database
from tests.models import Task
from tests.move.application import contents, fill
from tests.move.moving import MoveFolder
from tests.pooler import BINARY, pooler
from tests.servers import Databases, ask

from amphibase import SERVICE, User, load_settings
from amphibase.accounts.jwt.key_ring import load_keys
from amphibase.backend import Added, Topic
from amphibase.build import build_backend
from amphibase.database.engine import Database, PoolOptions
from amphibase.database.pool import PipelinePool
from amphibase.database.statement import Call, Statement
from amphibase.errors import ConfigurationError, NotSupported
from amphibase.gateway import project
from amphibase.gateway.rest.schema.cache import SchemaCache
from amphibase.postgres import Server
from amphibase.replication.replication_stream import offers_replication

pytestmark = pytest.mark.skipif(BINARY is None, reason="PgBouncer is not installed")

Behind = Callable[[str], str]
"""Returns the URL of a database through a pooler."""

CONFIGURATIONS = {"rejects options": "", "ignores options": "extra_float_digits,options"}
ROOM = Topic("rooms/{id}")(id=1)
SECONDS = 60


def behind(port: int) -> Behind:
    return lambda url: make_url(url).set(port=port).render_as_string(hide_password=False)


@pytest.fixture(scope="module")
def by_transaction(postgres: Server) -> Iterator[Behind]:
    with pooler(postgres.url) as port:
        yield behind(port)


@pytest.fixture(params=CONFIGURATIONS)
def by_transaction_in_each(request: pytest.FixtureRequest, postgres: Server) -> Iterator[Behind]:
    with pooler(postgres.url, ignore=CONFIGURATIONS[request.param]) as port:
        yield behind(port)


@pytest.fixture(params=CONFIGURATIONS)
def by_session(request: pytest.FixtureRequest, postgres: Server) -> Iterator[Behind]:
    with pooler(postgres.url, mode="session", ignore=CONFIGURATIONS[request.param]) as port:
        yield behind(port)


@pytest.fixture
def prepared_postgres_url(
    request: pytest.FixtureRequest, tmp_path: Path, databases: Databases
) -> Iterator[str]:
    with prepared_database("postgres", request, tmp_path) as url:
        yield url


async def test_a_pooler_in_transaction_mode_is_rejected_where_it_is_not_named(
    by_transaction_in_each: Behind, postgres_url: str
) -> None:
    database = Database(by_transaction_in_each(postgres_url), PoolOptions(size=4, pipelined=2))
    assert database.pipeline is not None
    with pytest.raises(ConfigurationError, match="POOL_MODE=transaction"):
        async with database.read():
            pass
    with pytest.raises(ConfigurationError, match="POOL_MODE=transaction"):
        await database.pipeline.run(Call(Statement("SELECT 1")))
    await database.close()


def test_a_command_says_so_in_a_line(
    by_transaction: Behind, postgres_url: str, tmp_path: Path
) -> None:
    url = by_transaction(postgres_url)
    refused = run(tmp_path, {"DATABASE_URL": url}, "db", "upgrade")
    assert refused.returncode == 2
    assert "POOL_MODE=transaction" in refused.stderr
    assert str(make_url(url).password) not in refused.stderr
    for _ in range(2):
        done = run(tmp_path, {"DATABASE_URL": url, "POOL_MODE": "transaction"}, "db", "upgrade")
        assert done.returncode == 0, done.stderr
    assert ask(postgres_url, "SELECT count(*) FROM auth.users") == 0


async def test_an_application_works_through_one_that_is_named(
    by_transaction: Behind, postgres_url: str, tmp_path: Path
) -> None:
    settings = load_settings(
        database_url=by_transaction(postgres_url),
        pool_mode="transaction",
        secret_key=SECRET,
        data_dir=tmp_path,
        pool_size=6,
    )
    backends = [build_backend(settings, load_keys(settings)) for _ in range(2)]
    for backend in backends:
        await backend.start()
    signed_up = await backends[0].accounts.sign_up("ann@example.com", "correct horse battery")
    assert signed_up.tokens is not None
    ann = await backends[1].accounts.authenticate(signed_up.tokens.access_token)
    await backends[0].repository(User, SERVICE).add(User(id=ann.user_id, email="ann@example.com"))
    # Many statements of many shapes at the same time, on sessions that all of them share.
    async with backends[1].changes(Task, ann) as changes:
        await (
            backends[0]
            .repository(Task, ann)
            .add_many([Task(title=str(number), stars=number) for number in range(2000)])
        )
        async with asyncio.timeout(SECONDS):
            events = [await anext(changes) for _ in range(2000)]
    assert {type(event) for event in events} == {Added}

    async def read(number: int) -> None:
        notes = backends[number % 2].repository(Task, ann)
        filters = [Task.stars == number, Task.title == str(number)][: number % 3]
        assert await notes.count(*filters) == (1 if filters else 2000)
        async with backends[number % 2].transaction(ann) as transaction:
            assert await transaction.repository(Task).count(Task.stars < number) == number

    await asyncio.gather(*map(read, range(200)))
    with pytest.raises(NotSupported):
        await backends[0].publish(ROOM, {"hello": "world"}, SERVICE)
    for backend in backends:
        await backend.close()


async def test_in_session_mode_values_are_read_as_without_a_pooler(
    by_session: Behind, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        name = connection.info.dbname
        for setting in ("timezone = 'Asia/Tokyo'", "datestyle = 'German'"):
            connection.execute(f"ALTER DATABASE {name} SET {setting}".encode())
    database = Database(by_session(postgres_url), PoolOptions(size=4, pipelined=2))
    assert database.pipeline is not None
    query = "SELECT timestamptz '2026-01-01 12:00Z'::text"
    async with database.read() as connection:
        assert await connection.scalar(text(query)) == "2026-01-01 12:00:00+00"
    rows = await database.pipeline.run(Call(Statement(query)))
    assert rows == [[("2026-01-01 12:00:00+00",)]]
    await database.close()


async def test_a_project_is_not_made_through_sessions_that_change(
    by_transaction: Behind, postgres_url: str
) -> None:
    with pytest.raises(ConfigurationError, match="port for sessions"):
        await project.prepare(by_transaction(postgres_url), "password")
    assert not ask(postgres_url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")


async def test_a_project_behind_a_pooler_has_its_changes_from_the_outbox(
    by_session: Behind, postgres: Server
) -> None:
    assert await offers_replication(postgres.url)
    assert not await offers_replication(by_session(postgres.url))


async def test_the_data_api_prepares_nothing_on_sessions_that_change(
    by_transaction: Behind, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = by_transaction(postgres_url)

    async def load(connection: psycopg.AsyncConnection) -> str:
        return connection.info.dbname

    async def notify(channel: str, payload: str) -> None:
        raise AssertionError("nobody listens")

    with pytest.raises(ConfigurationError, match="PGRST_DB_PREPARED_STATEMENTS=false"):
        await SchemaCache(url, load, notify).start()
    cache = SchemaCache(url, load, notify, needs_session=False)
    await cache.start()
    assert await cache.caught_up() == make_url(url).database
    assert "after a restart" in caplog.text
    await cache.close()
    pool = PipelinePool(url, prepare=False, session_settings={})
    assert await pool.run(Call(Statement("SELECT 1"))) == [[(1,)]]
    await pool.close()


PEOPLE = """
CREATE TABLE people (id int PRIMARY KEY, name text, friend int REFERENCES people);
"""


def test_a_move_of_a_table_goes_through_it(
    by_transaction: Behind, databases: Databases, tmp_path: Path
) -> None:
    with databases.new() as source, databases.new() as target:
        for url in (source, target):
            with psycopg.connect(url) as connection:
                connection.execute(PEOPLE)
        with psycopg.connect(source) as connection:
            connection.execute(
                "INSERT INTO people SELECT n, 'Ann', nullif(n - 1, 0)"
                " FROM generate_series(1, 3000) AS n"
            )
        through = MoveFolder(tmp_path, by_transaction(source), by_transaction(target))
        through.plan()
        through.run("--freeze")
        query = "SELECT array_agg(p ORDER BY id)::text FROM people p"
        assert ask(target, query) == ask(source, query)
        through.undo()
        assert ask(target, "SELECT count(*) FROM people") == 0
        MoveFolder(tmp_path, source, target).check_clean()


@pytest.mark.long
@pytest.mark.parametrize("sides", ["pooled-sqlite", "sqlite-pooled", "pooled-pooled"])
def test_a_move_goes_through_it(
    sides: str, by_transaction: Behind, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    kinds = ["postgres" if side == "pooled" else side for side in sides.split("-")]
    with (
        prepared_database(kinds[0], request, _folder(tmp_path, "source")) as source,
        prepared_database(kinds[1], request, _folder(tmp_path, "target")) as target,
    ):
        direct = MoveFolder(tmp_path, source, target)
        pooled = [_pooled(url, by_transaction) for url in (source, target)]
        through = MoveFolder(tmp_path, pooled[0], pooled[1])
        fill(source, direct.source_files)
        empty = contents(target)
        through.plan()
        through.run("--freeze")
        direct.check_equal()
        through.undo()
        assert contents(target) == empty
        direct.check_clean()


def _folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def _pooled(url: str, by_transaction: Behind) -> str:
    return by_transaction(url) if url.startswith("postgres") else url
