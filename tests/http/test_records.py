"""Records over HTTP, on every home: the repository as a dependency, and the ready routes."""

import json
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import Depends, FastAPI
from pydantic import BaseModel
from tests.models import (
    Author,
    Board,
    Category,
    Document,
    Draft,
    Kinds,
    Level,
    Note,
    Post,
    Seat,
    Secret,
)

from amphibase import (
    SERVICE,
    Access,
    Amphibase,
    Base,
    Caller,
    ConfigurationError,
    NotSupported,
    Repository,
    Settings,
    User,
    admin_user,
    current_caller,
    open_backend,
    service,
)
from amphibase.derived import read_model
from amphibase.http.routes.records import Answers
from amphibase.testing.client import Client, open_client

ROUTED = (Note, Post, Board, Draft, Document, Kinds, Author)


class NewNote(BaseModel):
    title: str
    stars: int = 0


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    """The README's routes at /mine, and the ready routes of each model."""
    db = Amphibase(settings)
    app = db.mount(FastAPI())
    rows = db.repository(Note)

    @app.post("/mine", status_code=201, response_model=db.schema(Note))
    async def add(new: NewNote, notes: Annotated[Repository[Note], rows]) -> Any:
        return await notes.add(Note(**new.model_dump()))

    @app.get("/mine", response_model=list[db.schema(Note)])  # type: ignore[misc]
    async def mine(notes: Annotated[Repository[Note], rows]) -> Any:
        return await notes.list(Note.stars > 3, limit=20)

    for model in ROUTED:
        app.include_router(db.router(model))
    return app


def db_of(app: FastAPI) -> Amphibase:
    db: Amphibase = app.state.amphibase
    return db


async def add(client: Client, path: str, **values: Any) -> Any:
    answer = await client.post(path, json=values)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def titles(client: Client, path: str) -> list[str]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return [item["title"] for item in answer.json()["items"]]


def check(answer: httpx.Response, status: int, code: str, field: str | None = None) -> None:
    """The answer is a problem of that kind, and names the field."""
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if field is not None:
        assert answer.json()["errors"][0]["field"] == field


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
        running = db_of(app).running
        await running.backend.repository(User, SERVICE).delete(ann.user.id)
        await add(ann, "/mine", title="first", stars=4)
        assert (await ann.get("/users/me")).json()["email"] == "ann@example.com"

    async def test_looks_for_the_profile_once(
        self, client: Client, app: FastAPI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ann = await client.as_user("ann@example.com")
        users = db_of(app).running.users
        asked = []
        get = users.get

        async def counted(id: UUID) -> Any:
            asked.append(id)
            return await get(id)

        monkeypatch.setattr(users, "get", counted)
        for _ in range(3):
            await ann.get("/mine")
        await client.get("/mine")
        assert asked == [ann.user.id]

    async def test_remembers_no_more_users_than_it_should(
        self, client: Client, app: FastAPI, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("amphibase.services.users.MAX_KNOWN", 2)
        for name in ("ann", "bob", "eve"):
            await (await client.as_user(f"{name}@example.com")).get("/mine")
        assert len(db_of(app).running.users._known) == 2

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

        app.dependency_overrides[db_of(app).repository(Note).dependency] = Fake
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


class TestRows:
    async def test_are_added_read_changed_and_deleted(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        answer = await ann.post("/t_notes", json={"title": "tea", "stars": 3})
        assert answer.status_code == 201
        note = answer.json()
        path = answer.headers["location"]
        assert path == f"/t_notes/{note['id']}"
        assert (await ann.get(path)).json() == note
        changed = (await ann.patch(path, json={"stars": 4})).json()
        assert changed == note | {"stars": 4, "updated_at": changed["updated_at"]}
        assert changed["updated_at"] > note["updated_at"]
        assert (await ann.delete(path)).status_code == 204
        check(await ann.get(path), 404, "not_found")
        check(await ann.patch(path, json={"stars": 4}), 404, "not_found")
        check(await ann.delete(path), 404, "not_found")

    async def test_of_others_do_not_exist(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        bob = await client.as_user("bob@example.com")
        note = await add(ann, "/t_notes", title="secret of ann", stars=3)
        path = f"/t_notes/{note['id']}"
        missing = f"/t_notes/{uuid4()}"
        for other in (bob, client):
            for method, body in (("GET", None), ("PATCH", {"stars": 1}), ("DELETE", None)):
                answer = await other.request(method, path, json=body)
                same = await other.request(method, missing, json=body)
                assert answer.status_code == same.status_code
                assert answer.status_code in ((404,) if other is bob else (401, 404))
                assert answer.json()["detail"] == same.json()["detail"]
            for query in ("", "?title=like.*", "?or=(stars.eq.3,stars.neq.3)", "?order=title"):
                listed = await other.get(f"/t_notes{query}")
                assert listed.json() == {"items": [], "next_cursor": None}
        assert (await ann.get(path)).json() == note

    async def test_that_everyone_reads_are_the_owners_to_write(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        bob = await client.as_user("bob@example.com")
        post = await add(ann, "/t_posts", title="news")
        path = f"/t_posts/{post['id']}"
        for reader in (ann, bob, client):
            assert (await reader.get(path)).json() == post
            assert await titles(reader, "/t_posts") == ["news"]
        check(await bob.patch(path, json={"title": "mine now"}), 404, "not_found")
        check(await bob.delete(path), 404, "not_found")
        check(await client.patch(path, json={"title": "x"}), 401, "not_authenticated")
        assert (await client.get(path)).json() == post

    async def test_that_administrators_write_are_refused_to_others(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        root = await client.as_user("root@example.com", admin=True)
        check(await ann.post("/t_boards", json={"name": "x"}), 403, "forbidden")
        check(await client.post("/t_boards", json={"name": "x"}), 401, "not_authenticated")
        board = await add(root, "/t_boards", name="a")
        assert (await ann.get(f"/t_boards/{board['id']}")).json() == board
        check(await client.get(f"/t_boards/{board['id']}"), 404, "not_found")
        assert (await client.get("/t_boards")).json()["items"] == []

    async def test_that_are_taken_already_are_a_conflict(self, client: Client) -> None:
        root = await client.as_user("root@example.com", admin=True)
        await add(root, "/t_boards", name="a")
        check(await root.post("/t_boards", json={"name": "a"}), 409, "conflict")

    async def test_never_show_private_columns(self, client: Client, app: FastAPI) -> None:
        ann = await client.as_user("ann@example.com")
        post = await add(ann, "/t_posts", title="news")
        rows = db_of(app).running.backend.repository(Post, SERVICE)
        await rows.update(UUID(post["id"]), remark="hidden words")
        changed = await ann.patch(f"/t_posts/{post['id']}", json={"title": "old"})
        listed = await client.get("/t_posts")
        one = await client.get(f"/t_posts/{post['id']}")
        document = await client.get("/openapi.json")
        for answer in (changed, listed, one, document):
            assert answer.status_code == 200
            assert "remark" not in answer.text
            assert "hidden words" not in answer.text

    @pytest.mark.parametrize("query", ["remark=like.h*", "or=(remark.eq.a,title.eq.b)"])
    async def test_cannot_be_found_by_private_columns(self, client: Client, query: str) -> None:
        check(await client.get(f"/t_posts?{query}"), 422, "validation_error", "remark")

    async def test_that_are_deleted_softly_do_not_exist(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        draft = await add(ann, "/t_drafts", title="a")
        assert "deleted_at" not in draft
        assert (await ann.delete(f"/t_drafts/{draft['id']}")).status_code == 204
        check(await ann.get(f"/t_drafts/{draft['id']}"), 404, "not_found")
        assert await titles(ann, "/t_drafts") == []

    async def test_with_a_counted_key_say_where_they_are(self, client: Client) -> None:
        answer = await client.post("/t_kinds", json={"text": "a"})
        assert answer.headers["location"] == f"/t_kinds/{answer.json()['id']}"

    async def test_take_and_give_every_type(self, client: Client) -> None:
        given = {
            "text": "äöü \U0001f600",
            "short": "12345",
            "number": -5,
            "small": 5,
            "big": 2**63 - 1,
            "real": 1.5,
            "yes": True,
            "exact": "0.1234567890123456789",
            "money": "12345678.90",
            "moment": "2024-01-01T12:00:00.123456Z",
            "day": "2024-02-29",
            "clock": "12:30:00",
            "duration": "P1DT2S",
            "uid": str(uuid4()),
            "data": "/wA=",
            "category": "opinion",
            "level": 2,
            "mapping": {"a": [1, None, {"b": "c"}]},
            "things": [1, "a", None, 1.5],
            "mappings": [{"a": 1}],
            "words": ["a", "b,c"],
            "numbers": [1, -(2**63)],
            "reals": [0.5],
            "answers": [True, False],
        }
        added = await add(client, "/t_kinds", **given)
        assert added == given | {"id": added["id"]}
        assert (await client.get(f"/t_kinds/{added['id']}")).json() == added
        assert (await client.get("/t_kinds")).json()["items"] == [added]
        nothing = dict.fromkeys(given)
        emptied = await client.patch(f"/t_kinds/{added['id']}", json=nothing)
        assert emptied.json() == nothing | {"id": added["id"]}

    async def test_stay_as_they_are_where_nothing_is_sent(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        note = await add(ann, "/t_notes", title="tea", stars=3)
        answer = await ann.patch(f"/t_notes/{note['id']}", json={})
        assert (answer.status_code, answer.json()["title"]) == (200, "tea")


class TestBadInput:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({"title": "x"}, "stars"),
            ({"title": "x", "stars": 2**31}, "stars"),
            ({"title": "x", "stars": None}, "stars"),
            ({"title": "a\x00b", "stars": 1}, "title"),
            ({"title": "x", "stars": 1, "nope": 1}, "nope"),
            ({"title": "x", "stars": 1, "id": str(uuid4())}, "id"),
            ({"title": "x", "stars": 1, "owner_id": str(uuid4())}, "owner_id"),
            ({"title": "x", "stars": 1, "created_at": "2024-01-01T00:00:00Z"}, "created_at"),
        ],
    )
    async def test_in_a_body_names_its_field(
        self, client: Client, body: dict[str, Any], field: str
    ) -> None:
        ann = await client.as_user("ann@example.com")
        check(await ann.post("/t_notes", json=body), 422, "validation_error", field)
        note = await add(ann, "/t_notes", title="tea", stars=3)
        if len(body) > 1:
            answer = await ann.patch(f"/t_notes/{note['id']}", json=body)
            check(answer, 422, "validation_error", field)
        assert (await ann.get(f"/t_notes/{note['id']}")).json() == note
        assert await titles(ann, "/t_notes") == ["tea"]

    @pytest.mark.parametrize("field", ["id", "owner_id", "created_at", "version"])
    async def test_that_the_server_sets_is_said_so(self, client: Client, field: str) -> None:
        ann = await client.as_user("ann@example.com")
        answer = await ann.post("/t_documents", json={"title": "x", field: None})
        assert answer.json()["detail"] == f"{field}: is set by the server"

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("nope=eq.1", "nope"),
            ("stars=3", "stars"),
            ("stars=nope.3", "stars"),
            ("stars=gt.x", "stars"),
            ("stars=gt.3000000000", "stars"),
            ("title=eq.%00", "title"),
            ("id=eq.1", "id"),
            ("created_at=gt.yesterday", "created_at"),
            ("order=nope", "order"),
            ("limit=-1", "limit"),
            ("limit=1000000000000", "limit"),
            ("and=" + "(and" * 20 + "(stars.eq.1" + ")" * 21, "and"),
        ],
    )
    async def test_in_a_query_string_names_its_field(
        self, client: Client, query: str, field: str
    ) -> None:
        check(await client.get(f"/t_notes?{query}"), 422, "validation_error", field)

    async def test_in_a_key_names_it(self, client: Client) -> None:
        for path in ("/t_notes/1", "/t_kinds/x", "/t_kinds/3000000000"):
            check(await client.get(path), 422, "validation_error", "id")

    async def test_that_is_too_large_is_refused(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        await add(ann, "/t_notes", title="x" * 900_000, stars=1)
        answer = await ann.post("/t_notes", json={"title": "x" * 1024 * 1024, "stars": 1})
        check(answer, 413, "payload_too_large")

    async def test_with_half_a_character_in_a_name_is_refused(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        headers = {"Content-Type": "application/json"}
        answer = await ann.post("/t_notes", content=b'{"\\ud800": 1}', headers=headers)
        check(answer, 422, "validation_error")

    async def test_that_refers_to_nothing_is_said_so(self, client: Client, app: FastAPI) -> None:
        rows = db_of(app).running.backend.repository(Note, SERVICE)
        app.dependency_overrides[current_caller] = lambda: Caller("authenticated", uuid4())
        answer = await client.post("/t_notes", json={"title": "x", "stars": 1})
        check(answer, 409, "foreign_key_violation")
        assert await rows.count() == 0


class TestLists:
    @pytest.fixture
    async def ann(self, client: Client) -> Client:
        """A user with nine notes."""
        ann = await client.as_user("ann@example.com")
        for number in range(9):
            await add(ann, "/t_notes", title=f"note {number}", stars=number % 3)
        bob = await client.as_user("bob@example.com")
        await add(bob, "/t_notes", title="note of bob", stars=1)
        return ann

    @pytest.mark.parametrize(
        ("query", "numbers"),
        [
            ("", "876543210"),
            ("stars=gt.1", "852"),
            ("stars=gte.1&stars=lt.2", "741"),
            ("stars=not.eq.1", "865320"),
            ("stars=in.(0,2)&title=neq.note 8", "65320"),
            ("title=like.note*3", "3"),
            ("title=ilike.NOTE*4", "4"),
            ('title=in.("note 1",note 2)', "21"),
            ("or=(title.eq.note 1,and(stars.eq.2,title.eq.note 5))", "51"),
            ("not.or=(stars.eq.1,stars.eq.2)", "630"),
            ("title=is.null", ""),
            ("title=is.not_null&limit=2", "87"),
            ("order=title", "012345678"),
            ("order=stars.desc,title.asc&limit=4", "2581"),
            ("stars=in.()", ""),
        ],
    )
    async def test_are_filtered_and_ordered(self, ann: Client, query: str, numbers: str) -> None:
        found = await titles(ann, f"/t_notes?{query}")
        assert found == [f"note {number}" for number in numbers]

    async def test_keep_case_apart_unless_told(self, ann: Client) -> None:
        assert await titles(ann, "/t_notes?title=like.NOTE*") == []

    @pytest.mark.parametrize("order", ["", "&order=stars.desc", "&order=stars,title.desc"])
    async def test_are_paged_through_once_each(self, ann: Client, order: str) -> None:
        whole = await titles(ann, f"/t_notes?{order}")
        found, cursor, pages = [], "", 0
        while True:
            reply = await ann.get(f"/t_notes?limit=4{order}{cursor}")
            assert reply.status_code == 200, reply.text
            answer = reply.json()
            found += [item["title"] for item in answer["items"]]
            pages += 1
            if answer["next_cursor"] is None:
                break
            cursor = f"&cursor={answer['next_cursor']}"
        assert (found, pages) == (whole, 3)

    async def test_refuse_cursors_of_others(self, ann: Client) -> None:
        cursor = (await ann.get("/t_notes?limit=4")).json()["next_cursor"]
        for query in (
            f"cursor={cursor}&stars=eq.1",
            f"cursor={cursor}&order=title",
            f"cursor={cursor[:-2]}",
            "cursor=x",
        ):
            check(await ann.get(f"/t_notes?{query}"), 400, "invalid_cursor")


class TestVersions:
    @pytest.fixture
    async def ann(self, client: Client) -> Client:
        return await client.as_user("ann@example.com")

    async def test_are_in_the_etag(self, ann: Client) -> None:
        added = await ann.post("/t_documents", json={"title": "a"})
        path = added.headers["location"]
        assert (added.headers["etag"], added.json()["version"]) == ('"1"', 1)
        changed = await ann.patch(path, json={"title": "b"})
        assert changed.headers["etag"] == '"2"'
        assert (await ann.get(path)).headers["etag"] == '"2"'

    async def test_guard_a_change(self, ann: Client) -> None:
        document = await add(ann, "/t_documents", title="a")
        path = f"/t_documents/{document['id']}"
        first = {"If-Match": '"1"'}
        assert (await ann.patch(path, json={"title": "b"}, headers=first)).status_code == 200
        check(await ann.patch(path, json={"title": "c"}, headers=first), 409, "stale_version")
        check(await ann.delete(path, headers=first), 409, "stale_version")
        assert (await ann.get(path)).json()["title"] == "b"
        assert (await ann.delete(path, headers={"If-Match": '"2"'})).status_code == 204
        check(await ann.patch(path, json={"title": "c"}, headers=first), 404, "not_found")

    async def test_of_others_tell_nothing(self, client: Client, ann: Client) -> None:
        document = await add(ann, "/t_documents", title="a")
        bob = await client.as_user("bob@example.com")
        path = f"/t_documents/{document['id']}"
        for version in ('"1"', '"2"'):
            headers = {"If-Match": version}
            check(await bob.patch(path, json={"title": "b"}, headers=headers), 404, "not_found")
            check(await bob.delete(path, headers=headers), 404, "not_found")

    async def test_may_be_any(self, ann: Client) -> None:
        document = await add(ann, "/t_documents", title="a")
        path = f"/t_documents/{document['id']}"
        any_version = {"If-Match": "*"}
        assert (await ann.patch(path, json={"title": "b"}, headers=any_version)).status_code == 200
        assert (await ann.delete(path, headers=any_version)).status_code == 204

    @pytest.mark.parametrize(
        "given", ["1", '"x"', 'W/"1"', '""', '"1', '"1", "2"', '"-1"', '"99999999999"', "", '"١"']
    )
    async def test_must_be_well_formed(self, ann: Client, given: str) -> None:
        document = await add(ann, "/t_documents", title="a")
        path = f"/t_documents/{document['id']}"
        headers = {"If-Match": given.encode()}
        for method, body in (("PATCH", {"title": "b"}), ("DELETE", None)):
            answer = await ann.request(method, path, json=body, headers=headers)  # type: ignore[arg-type]
            check(answer, 422, "validation_error", "If-Match")
        assert (await ann.get(path)).json() == document


class TestRouters:
    def test_have_only_routes_that_could_answer(self) -> None:
        class Rate(Base):
            __tablename__ = "t_boards"
            __table_args__ = {"extend_existing": True}  # noqa: RUF012
            __access__ = Access(read=Board.__access__.read, write=service)

        methods = {
            method
            for route in Amphibase().router(Rate).routes
            for method in route.methods  # type: ignore[attr-defined]
        }
        assert methods == {"GET"}

    def test_are_refused_for_what_is_the_services_alone(self) -> None:
        with pytest.raises(ConfigurationError, match="Secret is for the service alone"):
            Amphibase().router(Secret)

    def test_are_refused_for_keys_of_several_columns(self) -> None:
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
            answer = await root.post("/api/v1/notes", json={"title": "a", "stars": 1})
            assert answer.headers["location"] == f"/api/v1/notes/{answer.json()['id']}"
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
        assert names == [*shown, "and", "or", "order", "limit", "cursor"]
        change = document["paths"]["/t_documents/{id}"]["patch"]
        assert [each["name"] for each in change["parameters"]] == ["id", "If-Match"]
        body = change["requestBody"]["content"]["application/json"]["schema"]
        assert body == {"$ref": "#/components/schemas/DocumentUpdate"}
        answer = change["responses"]["200"]["content"]["application/json"]["schema"]
        assert answer == {"$ref": "#/components/schemas/Document"}
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                assert "default" in operation["responses"] or path == "/mine", (path, method)


def test_rows_become_the_bytes_of_their_read_model() -> None:
    row = Kinds(
        **dict.fromkeys(read_model(Kinds).model_fields)
        | {"id": 1, "data": b"\xff", "category": Category.NEWS, "level": Level.HIGH}
        | {"exact": Decimal("1.50"), "words": ["a"], "mapping": {"a": None}}
    )
    expected = read_model(Kinds).model_validate(row).model_dump(mode="json")
    assert json.loads(Answers(Kinds).row(row)) == expected


def test_answers_give_keys_as_they_stand_in_a_path() -> None:
    assert Answers(Kinds).key_of(Kinds(id=7)) == "7"
    id = uuid4()
    assert Answers(Note).key_of(Note(id=id)) == str(id)
