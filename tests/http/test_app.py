"""What `Amphibase` gives an application: sessions, users, lifespans, headers, overrides."""

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

import pytest
from fastapi import Body, FastAPI, HTTPException
from sqlalchemy import ForeignKey, select
from sqlalchemy.orm import Mapped, mapped_column

from amphibase import (
    AdminUser,
    Amphibase,
    Base,
    ConfigurationError,
    CurrentUser,
    Session,
    Settings,
    User,
    current_user,
)
from amphibase.testing.client import Client, open_client


class Poet(Base):
    __tablename__ = "authors"
    id: Mapped[int] = mapped_column(primary_key=True)


class Poem(Base):
    __tablename__ = "books"
    id: Mapped[int] = mapped_column(primary_key=True)
    author_id: Mapped[int] = mapped_column(
        ForeignKey(Poet.id, deferrable=True, initially="DEFERRED")
    )


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    app = Amphibase(settings).mount(FastAPI())

    @app.post("/books/{author_id}", status_code=201)
    async def add(author_id: int, session: Session) -> dict[str, bool]:
        session.add(Poem(author_id=author_id))
        await session.flush()
        return {"stored": True}

    @app.post("/authors/{id}", status_code=201)
    async def add_author(id: int, session: Session) -> None:
        session.add(Poet(id=id))

    @app.post("/authors/{id}/rejected")
    async def reject(id: int, session: Session) -> None:
        session.add(Poet(id=id))
        await session.flush()
        raise HTTPException(418, "no")

    @app.get("/authors")
    async def authors(session: Session) -> list[int]:
        return list((await session.scalars(select(Poet.id).order_by(Poet.id))).all())

    @app.get("/books")
    async def books(session: Session) -> int:
        return len((await session.scalars(select(Poem))).all())

    @app.get("/whoami")
    async def whoami(user: CurrentUser) -> str:
        return user.email

    @app.get("/admin")
    async def admin(user: AdminUser) -> str:
        return user.email

    return app


class TestSession:
    async def test_is_committed_before_the_response(self, client: Client) -> None:
        assert (await client.post("/authors/1")).status_code == 201
        assert (await client.get("/authors")).json() == [1]

    async def test_a_commit_that_fails_is_an_error_and_stores_nothing(self, client: Client) -> None:
        response = await client.post("/books/7")
        assert (response.status_code, response.json()["code"]) == (409, "foreign_key_violation")
        assert (await client.get("/books")).json() == 0

    async def test_a_failed_commit_leaves_no_transaction_to_the_next(self, client: Client) -> None:
        for _ in range(30):  # more often than there are connections
            assert (await client.post("/books/7")).status_code == 409
        assert (await client.post("/authors/7")).status_code == 201
        assert (await client.post("/books/7")).status_code == 201
        assert (await client.get("/books")).json() == 1

    async def test_an_error_of_the_handler_stores_nothing(self, client: Client) -> None:
        assert (await client.post("/authors/1/rejected")).status_code == 418
        assert (await client.get("/authors")).json() == []

    async def test_a_taken_key_is_a_conflict_that_names_it(self, client: Client) -> None:
        await client.post("/authors/1")
        response = await client.post("/authors/1")
        assert (response.status_code, response.json()["columns"]) == (409, ["id"])

    async def test_of_the_tests_is_rolled_back(self, app: FastAPI, settings: Settings) -> None:
        db: Amphibase = app.state.amphibase
        from amphibase.testing import plugin

        async with open_client(app) as client:
            fixture = plugin.session.__wrapped__(app, client)  # type: ignore[attr-defined]
            session = await anext(fixture)
            session.add(Poet(id=1))
            await session.flush()
            assert (await client.post("/authors/2")).status_code == 201
            assert (await client.get("/authors")).json() == [1, 2]
            with contextlib.suppress(StopAsyncIteration):
                await anext(fixture)
            assert (await client.get("/authors")).json() == []
            assert db.state


class TestUsers:
    async def test_come_as_annotated_arguments(self, client: Client) -> None:
        assert (await client.get("/whoami")).status_code == 401
        ann = await client.as_user("ann@example.com")
        assert (await ann.get("/whoami")).json() == "ann@example.com"
        assert (await ann.get("/admin")).status_code == 403
        root = await client.as_user("root@example.com", admin=True)
        assert (await root.get("/admin")).json() == "root@example.com"

    async def test_can_be_overridden(self, app: FastAPI, client: Client) -> None:
        app.dependency_overrides[current_user] = lambda: User(email="fake@example.com")
        assert (await client.get("/whoami")).json() == "fake@example.com"

    async def test_a_profile_is_created_at_the_first_request(
        self, app: FastAPI, client: Client
    ) -> None:
        db: Amphibase = app.state.amphibase
        account = await db.state.backend.accounts.create("ann@example.com")
        assert (await db.state.users.get(account.id)).email == "ann@example.com"

    async def test_a_profile_left_by_a_deletion_cut_short_is_no_obstacle(
        self, app: FastAPI, client: Client
    ) -> None:
        db: Amphibase = app.state.amphibase
        ann = await client.as_user("ann@example.com")
        await db.state.backend.accounts.delete(ann.user.id)
        again = await client.as_user("ann@example.com")
        assert again.user.id != ann.user.id


async def test_the_applications_lifespan_runs_inside(settings: Settings) -> None:
    seen: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await app.state.amphibase.state.backend.check()
        seen.append("started")
        yield {"answer": 42}
        await app.state.amphibase.state.backend.check()
        seen.append("stopped")

    app = Amphibase(settings).mount(FastAPI(lifespan=lifespan))
    async with app.router.lifespan_context(app) as state:
        assert state == {"answer": 42}
    assert seen == ["started", "stopped"]


async def test_an_application_can_be_started_again(app: FastAPI) -> None:
    for _ in range(2):
        async with open_client(app) as client:
            assert (await client.get("/health/ready")).json() == {"status": "ok"}


async def test_what_is_not_started_says_so(app: FastAPI) -> None:
    db: Amphibase = app.state.amphibase
    with pytest.raises(ConfigurationError, match="not been started"):
        _ = db.state


async def test_responses_carry_security_headers_and_an_id(client: Client) -> None:
    response = await client.get("/health/live", headers={"X-Request-ID": "abc-123"})
    assert response.headers["x-request-id"] == "abc-123"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    response = await client.get("/health/live", headers={"X-Request-ID": "a b\x7f" + "x" * 99})
    assert len(response.headers["x-request-id"]) == 32


async def test_the_access_log_holds_no_secret(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        ann = await client.as_user("ann@example.com")
        await ann.get("/users/me", params={"token": "a-secret-token"})
        body = {"email": "ann@example.com", "password": "a-secret-password"}
        await client.post("/auth/sign-in", json=body)
    ours = [record for record in caplog.records if record.name.startswith("amphibase")]
    (me,) = [record for record in ours if getattr(record, "path", "") == "/users/me"]
    assert (me.__dict__["status"], me.__dict__["method"]) == (200, "GET")
    written = " ".join(f"{record.getMessage()} {record.__dict__}" for record in ours)
    assert "secret" not in written
    assert str(ann.headers["authorization"]) not in written


async def test_a_line_break_in_a_path_forges_no_line_of_the_log(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """The path is logged as it was sent, with what is not printable quoted."""
    with caplog.at_level("INFO", "amphibase.access"):
        await client.get("/x%0AGET /admin 200")
    (record,) = [record for record in caplog.records if record.name == "amphibase.access"]
    assert record.getMessage() == "GET /x%0AGET%20/admin%20200 404"


async def test_a_body_beyond_the_limit_of_fastapi_is_413_and_no_unexpected_error(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    app = FastAPI(max_body_size=10)

    @app.post("/texts")
    @app.post("/short", max_body_size=5)
    async def add(text: Annotated[str, Body()]) -> int:
        return len(text)

    with caplog.at_level("INFO"):
        async with open_client(Amphibase(settings).mount(app)) as client:
            assert (await client.post("/texts", json="8 bytes.")).json() == 8
            for path, text in (("/texts", "9 bytes.."), ("/short", "4 b.")):
                assert (await client.post(path, json=text)).status_code == 413
    ours = [record for record in caplog.records if record.name.startswith("amphibase")]
    lines = [record.getMessage() for record in ours if record.name == "amphibase.access"]
    assert lines == ["POST /texts 200", "POST /texts 413", "POST /short 413"]
    assert [record for record in ours if record.levelname == "ERROR"] == []


async def test_the_public_keys_are_public_and_a_secret_is_not(client: Client) -> None:
    response = await client.get("/.well-known/jwks.json")
    assert response.json() == {"keys": []}


class TestOtherOrigins:
    @pytest.fixture
    def settings(self, make_settings):  # type: ignore[no-untyped-def]
        return make_settings(cors_origins="https://example.com")

    async def test_are_let_in_when_they_are_named(self, client: Client) -> None:
        for origin, allowed in (("https://example.com", True), ("https://evil.example", False)):
            response = await client.get("/health/live", headers={"Origin": origin})
            assert ("access-control-allow-origin" in response.headers) is allowed

    async def test_may_read_that_something_went_wrong(self, app: FastAPI, client: Client) -> None:
        """An unexpected error is answered with the headers of CORS too."""

        @app.get("/broken")
        async def broken() -> None:
            raise RuntimeError

        response = await client.get("/broken", headers={"Origin": "https://example.com"})
        assert response.status_code == 500
        assert response.headers["access-control-allow-origin"] == "https://example.com"
        assert response.headers["x-request-id"]
