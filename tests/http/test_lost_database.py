"""A database that is lost, full or slow: 503 with Retry-After, and all is well when it is back."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from sqlalchemy import event, text
from tests.backends import sql_backend_of
from tests.conftest import SECRET

from amphibase import Amphibase, Session, load_settings
from amphibase.database import writable
from amphibase.postgres import start
from amphibase.testing.client import PASSWORD, open_client

ANN = {"email": "ann@example.com", "password": PASSWORD}


def check_unavailable(response: Any, code: str = "unavailable") -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["code"] == code
    assert "127.0.0.1" not in response.text


async def test_a_stopped_postgres_is_reported_and_a_restarted_one_found(tmp_path: Path) -> None:
    server = start(tmp_path / "postgres", fsync=False)
    try:
        settings = load_settings(
            database_url=server.create_database("app"), secret_key=SECRET, data_dir=tmp_path
        )
        app = Amphibase(settings).mount(FastAPI())
        async with open_client(app) as client:
            ann = await client.as_user("ann@example.com")
            assert (await ann.get("/users/me")).status_code == 200
            server.stop()
            check_unavailable(await ann.get("/users/me"))
            check_unavailable(await client.post("/auth/sign-in", json=ANN))
            check_unavailable(await client.get("/health/ready"))
            assert (await client.get("/health/live")).status_code == 200
            server = start(tmp_path / "postgres", port=server.port, fsync=False)
            assert (await ann.get("/users/me")).status_code == 200
            assert (await client.post("/auth/sign-in", json=ANN)).status_code == 200
            assert (await client.get("/health/ready")).status_code == 200
    finally:
        server.stop()


async def test_a_full_disk_stores_nothing_by_halves(tmp_path: Path, sqlite_url: str) -> None:
    settings = load_settings(database_url=sqlite_url, secret_key=SECRET, data_dir=tmp_path)
    app = Amphibase(settings).mount(FastAPI())
    async with open_client(app) as client:
        engine = sql_backend_of(app).database.engine
        full = True

        @event.listens_for(engine.sync_engine, "begin")
        def limit(connection: Any) -> None:
            # As small as the file is: SQLite answers as it does when the disk is full.
            pages = 1 if full else 1 << 30
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

        rejected = 0
        for n in range(200):
            body = {"email": f"user{n}@example.com", "password": PASSWORD}
            response = await client.post("/auth/sign-up", json=body)
            if response.status_code != 201:
                check_unavailable(response)
                rejected += 1
                break
        assert rejected
        full = False
        assert (await client.post("/auth/sign-up", json=body)).status_code == 201


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("53100", "unavailable"),
        ("53300", "unavailable"),
        ("57P01", "unavailable"),
        ("40001", "contention"),
        ("57014", "unavailable"),
    ],
)
async def test_what_passes_is_distinguished_by_its_sqlstate(
    postgres_url: str, tmp_path: Path, state: str, code: str
) -> None:
    settings = load_settings(database_url=postgres_url, secret_key=SECRET, data_dir=tmp_path)
    app = Amphibase(settings).mount(FastAPI())

    @app.get("/raise")
    async def fail(session: Session) -> None:
        await session.execute(
            text(f"DO $$ BEGIN RAISE EXCEPTION 'inside' USING ERRCODE = '{state}'; END $$")
        )

    async with open_client(app) as client:
        response = await client.get("/raise")
    check_unavailable(response, code)
    assert "inside" not in response.text


async def test_a_database_that_only_reads_is_not_ready(postgres_url: str, tmp_path: Path) -> None:
    settings = load_settings(database_url=postgres_url, secret_key=SECRET, data_dir=tmp_path)
    app = Amphibase(settings).mount(FastAPI())
    async with open_client(app) as client:
        assert (await client.get("/health")).status_code == 200
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            name = connection.info.dbname
            connection.execute(
                f"ALTER DATABASE {name} SET default_transaction_read_only = on".encode()
            )
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = %s AND pid <> pg_backend_pid()",
                (name,),
            )
        for path in ("/health/ready", "/health"):
            check_unavailable(await client.get(path))
            assert (await client.head(path)).status_code == 503
        assert (await client.head("/health/live")).status_code == 200


async def test_a_full_disk_of_a_sqlite_file_is_not_ready(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(database_url=sqlite_url, secret_key=SECRET, data_dir=tmp_path)
    app = Amphibase(settings).mount(FastAPI())
    async with open_client(app) as client:
        assert (await client.get("/health/ready")).status_code == 200
        monkeypatch.setattr(writable, "MIN_FREE_BYTES", 1 << 62)
        check_unavailable(await client.get("/health/ready"))
