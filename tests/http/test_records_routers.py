"""Records over HTTP, on every backend: the repository as a dependency, and routers as a whole."""

import json
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import Depends, FastAPI
from tests.column_models import Kinds, Seat
from tests.http.records import add, check, db_of, records_app
from tests.models import Category, Comment, Level, Note, Post, Rate, Secret

from amphibase import (
    SERVICE,
    Amphibase,
    Caller,
    ConfigurationError,
    NotSupported,
    Settings,
    User,
    admin_user,
    current_caller,
    open_backend,
)
from amphibase.errors import UnreadableValue
from amphibase.http.row_serializer import RowSerializer
from amphibase.records.derived import read_model
from amphibase.testing.client import Client, open_client


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return records_app(settings)


class TestTheRepository:
    async def test_holds_the_callers_own_rows(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        bob = await client.as_user("bob@example.com")
        added = await add(ann, "/mine", title="ann's", stars=5)
        await add(ann, "/mine", title="dull", stars=1)
        await add(bob, "/mine", title="bob's", stars=4)
        assert added["owner_id"] == str(ann.user.id)
        assert [note["title"] for note in (await ann.get("/mine")).json()] == ["ann's"]
        assert [note["title"] for note in (await bob.get("/mine")).json()] == ["bob's"]
        assert (await client.get("/mine")).json() == []

    async def test_wants_a_signed_in_caller_to_write(self, client: Client) -> None:
        check(await client.post("/mine", json={"title": "x"}), 401, "not_authenticated")

    async def test_makes_the_profile_of_an_account_from_elsewhere(
        self, client: Client, app: FastAPI
    ) -> None:
        ann = await client.as_user("ann@example.com")
        state = db_of(app).state
        await state.backend.repository(User, SERVICE).delete(ann.user.id)
        await add(ann, "/mine", title="first", stars=4)
        assert (await ann.get("/users/me")).json()["email"] == "ann@example.com"

    async def test_looks_for_the_profile_once(
        self, client: Client, app: FastAPI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ann = await client.as_user("ann@example.com")
        users = db_of(app).state.users
        items = []
        get = users.get

        async def counted(id: UUID) -> Any:
            items.append(id)
            return await get(id)

        monkeypatch.setattr(users, "get", counted)
        for _ in range(3):
            await ann.get("/mine")
        await client.get("/mine")
        assert items == [ann.user.id]

    async def test_remembers_no_more_users_than_it_should(
        self, client: Client, app: FastAPI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("amphibase.services.users.MAX_KNOWN", 2)
        for name in ("ann", "bob", "eve"):
            await (await client.as_user(f"{name}@example.com")).get("/mine")
        assert len(db_of(app).state.users._known) == 2

    async def test_is_the_callers_who_stands_in_for_another(
        self, client: Client, app: FastAPI
    ) -> None:
        ann = await client.as_user("ann@example.com")
        await add(ann, "/mine", title="ann's", stars=5)
        stranger = Caller("authenticated", user_id=uuid4())
        app.dependency_overrides[current_caller] = lambda: stranger
        assert (await client.get("/mine")).json() == []
        app.dependency_overrides[current_caller] = lambda: Caller("authenticated", ann.user.id)
        assert [note["title"] for note in (await client.get("/mine")).json()] == ["ann's"]

    async def test_can_be_replaced_in_tests(self, client: Client, app: FastAPI) -> None:
        class Fake:
            async def list(self, *_: Any, **__: Any) -> list[Note]:
                return []

        dependency = db_of(app).repository(Note).dependency
        assert dependency is not None
        app.dependency_overrides[dependency] = Fake
        assert (await client.get("/mine")).json() == []

    async def test_serves_scripts_too(self, client: Client, settings: Settings) -> None:
        ann = await client.as_user("ann@example.com")
        await add(ann, "/mine", title="ann's", stars=5)
        async with open_backend(settings) as backend:
            all_notes = await backend.repository(Note, SERVICE).list()
            assert [note.title for note in all_notes] == ["ann's"]
            hers = backend.repository(Note, Caller("authenticated", ann.user.id))
            assert await hers.count() == 1
            strangers = backend.repository(Note, Caller("authenticated", uuid4()))
            assert await strangers.count() == 0


class TestRouters:
    def test_have_only_routes_that_could_respond(self) -> None:
        methods = {
            method
            for route in Amphibase().router(Rate).routes
            for method in route.methods  # type: ignore[attr-defined]
        }
        assert methods == {"GET"}

    def test_are_rejected_for_what_is_the_services_alone(self) -> None:
        with pytest.raises(ConfigurationError, match="Secret is for the service alone"):
            Amphibase().router(Secret)

    def test_are_rejected_for_keys_of_several_columns(self) -> None:
        with pytest.raises(NotSupported, match=r"Seat has a key of several columns \(row, number"):
            Amphibase().router(Seat)

    async def test_can_be_elsewhere_and_for_some_only(self, settings: Settings) -> None:
        db = Amphibase(settings)
        app = db.mount(FastAPI())
        only_admins = [Depends(admin_user)]
        app.include_router(
            db.router(Note, prefix="/api/v1/notes", tags=["mine"], dependencies=only_admins)
        )
        async with open_client(app) as client:
            ann = await client.as_user("ann@example.com")
            check(await ann.get("/api/v1/notes"), 403, "not_admin")
            root = await client.as_user("root@example.com", admin=True)
            response = await root.post("/api/v1/notes", json={"title": "a", "stars": 1})
            assert response.headers["location"] == f"/api/v1/notes/{response.json()['id']}"
            operations = (await client.get("/openapi.json")).json()["paths"]["/api/v1/notes"]
            assert operations["get"]["tags"] == ["mine"]

    async def test_can_be_behind_a_parameter(self, settings: Settings) -> None:
        db = Amphibase(settings)
        app = db.mount(FastAPI())
        app.include_router(db.router(Post, prefix="/teams/{team}/posts"))
        async with open_client(app) as client:
            assert (await client.get("/teams/red/posts")).json()["items"] == []
            assert (await client.get("/team/red/posts")).status_code == 404

    @pytest.mark.parametrize("where", ["application", "inclusion"])
    async def test_honour_the_dependencies_of_whoever_includes_them(
        self, settings: Settings, where: str
    ) -> None:
        only_admins = [Depends(admin_user)]
        db = Amphibase(settings)
        app = FastAPI(dependencies=only_admins) if where == "application" else FastAPI()
        db.mount(app)
        app.include_router(
            db.router(Post), dependencies=only_admins if where == "inclusion" else None
        )
        async with open_client(app) as client:
            for path in ("/t_posts", f"/t_posts/{uuid4()}"):
                check(await client.get(path), 401, "not_authenticated")

    async def test_document_every_parameter_and_body(self, client: Client) -> None:
        document = (await client.get("/openapi.json")).json()
        listed = document["paths"]["/t_posts"]["get"]["parameters"]
        names = [parameter["name"] for parameter in listed]
        shown = [*read_model(Post).model_fields]
        related = [f"comments.{name}" for name in read_model(Comment).model_fields]
        assert names == [*shown, "and", "or", *related, "order", "limit", "cursor"]
        listed = document["paths"]["/t_notes"]["get"]["parameters"]
        assert "search" in [parameter["name"] for parameter in listed]
        aggregated = document["paths"]["/t_posts/aggregate"]["get"]["parameters"]
        names = [parameter["name"] for parameter in aggregated]
        assert names == ["select", "limit", *shown, "and", "or", *related]
        change = document["paths"]["/t_documents/{id}"]["patch"]
        assert [each["name"] for each in change["parameters"]] == ["id", "If-Match"]
        body = change["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": "#/components/schemas/DocumentUpdate"}
        response = change["responses"]["200"]["content"]["application/json"]["schema"]
        assert response == {"$ref": "#/components/schemas/Document"}
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                assert "default" in operation["responses"] or path == "/mine", (path, method)

    async def test_document_every_error_with_its_codes(self, client: Client) -> None:
        paths = (await client.get("/openapi.json")).json()["paths"]
        errors = {
            method: {
                status: response["description"]
                for status, response in paths["/t_documents/{id}"][method]["responses"].items()
                if [*response.get("content", ())] == ["application/problem+json"]
            }
            for method in ("get", "patch", "delete")
        }
        assert {*errors["get"]} == {"401", "403", "404", "422", "503", "default"}
        assert {*errors["patch"]} == {*errors["get"], "409", "413", "415"}
        assert errors["delete"]["409"] == "`foreign_key_violation`, `stale_version`"


def test_rows_become_the_bytes_of_their_read_model() -> None:
    row = Kinds(
        **dict.fromkeys(read_model(Kinds).model_fields)
        | {"id": 1, "data": b"\xff", "category": Category.NEWS, "level": Level.HIGH}
        | {"exact": Decimal("1.50"), "words": ["a"], "mapping": {"a": None}}
    )
    expected = read_model(Kinds).model_validate(row).model_dump(mode="json")
    assert json.loads(RowSerializer(Kinds).row(row)) == expected


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_number_that_json_cannot_hold_is_no_null(value: float) -> None:
    row = Kinds(**dict.fromkeys(read_model(Kinds).model_fields) | {"id": 7, "real": value})
    with pytest.raises(UnreadableValue, match=r"^real of Kinds 7 holds (inf|nan)"):
        RowSerializer(Kinds).row(row)


def test_responses_give_keys_as_they_stand_in_a_path() -> None:
    assert RowSerializer(Kinds).path_key(Kinds(id=7)) == "7"
    id = uuid4()
    assert RowSerializer(Note).path_key(Note(id=id)) == str(id)
