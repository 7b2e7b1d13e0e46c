"""Records over HTTP, on every backend: rows that are added, read, changed and deleted."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from tests.http.records import add, check, db_of, shared_records_app, titles
from tests.models import Note, Post

from amphibase import SERVICE, Caller, Settings, current_caller
from amphibase.testing.client import Client


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return shared_records_app(settings)


class TestRows:
    async def test_are_added_read_changed_and_deleted(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        response = await ann.post("/t_notes", json={"title": "tea", "stars": 3})
        assert response.status_code == 201
        note = response.json()
        path = response.headers["location"]
        assert path == f"/t_notes/{note['id']}"
        assert (await ann.get(path)).json() == note
        changed = (await ann.patch(path, json={"stars": 4})).json()
        assert changed == note | {"stars": 4, "updated_at": changed["updated_at"]}
        earlier, later = (datetime.fromisoformat(each["updated_at"]) for each in (note, changed))
        assert later > earlier
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
                response = await other.request(method, path, json=body)
                same = await other.request(method, missing, json=body)
                assert response.status_code == same.status_code
                assert response.status_code in ((404,) if other is bob else (401, 404))
                assert response.json()["detail"] == same.json()["detail"]
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
        check(await bob.patch(path, json={"title": "mine now"}), 403, "forbidden")
        check(await bob.delete(path), 403, "forbidden")
        check(await client.patch(path, json={"title": "x"}), 401, "not_authenticated")
        assert (await client.get(path)).json() == post

    async def test_that_administrators_write_are_forbidden_to_others(self, client: Client) -> None:
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
        rows = db_of(app).state.backend.repository(Post, SERVICE)
        await rows.update(UUID(post["id"]), remark="hidden words")
        changed = await ann.patch(f"/t_posts/{post['id']}", json={"title": "old"})
        listed = await client.get("/t_posts")
        one = await client.get(f"/t_posts/{post['id']}")
        document = await client.get("/openapi.json")
        for response in (changed, listed, one, document):
            assert response.status_code == 200
            assert "remark" not in response.text
            assert "hidden words" not in response.text

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
        response = await client.post("/t_kinds", json={"text": "a"})
        assert response.headers["location"] == f"/t_kinds/{response.json()['id']}"

    async def test_take_and_give_every_type(self, client: Client) -> None:
        values = {
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
            "duration": "P400DT3H0M5S",
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
        added = await add(client, "/t_kinds", **values)
        assert added == values | {"id": added["id"]}
        assert (await client.get(f"/t_kinds/{added['id']}")).json() == added
        assert (await client.get("/t_kinds")).json()["items"] == [added]
        nothing = dict.fromkeys(values)
        emptied = await client.patch(f"/t_kinds/{added['id']}", json=nothing)
        assert emptied.json() == nothing | {"id": added["id"]}

    async def test_stay_as_they_are_where_nothing_is_sent(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        note = await add(ann, "/t_notes", title="tea", stars=3)
        response = await ann.patch(f"/t_notes/{note['id']}", json={})
        assert (response.status_code, response.json()["title"]) == (200, "tea")


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
            response = await ann.patch(f"/t_notes/{note['id']}", json=body)
            check(response, 422, "validation_error", field)
        assert (await ann.get(f"/t_notes/{note['id']}")).json() == note
        assert await titles(ann, "/t_notes") == ["tea"]

    @pytest.mark.parametrize(
        ("field", "value"), [("moment", "202601011030"), ("day", "0"), ("day", "1767225600.0")]
    )
    async def test_that_writes_a_date_as_a_number_is_rejected(
        self, client: Client, field: str, value: str
    ) -> None:
        check(await client.post("/t_kinds", json={field: value}), 422, "validation_error", field)

    @pytest.mark.parametrize("field", ["id", "owner_id", "created_at", "version"])
    async def test_that_the_server_sets_is_reported(self, client: Client, field: str) -> None:
        ann = await client.as_user("ann@example.com")
        response = await ann.post("/t_documents", json={"title": "x", field: None})
        assert response.json()["detail"] == f"{field}: is set by the server"

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
            ("created_at=gt.20260101", "created_at"),  # to pydantic, a day in 1970
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

    async def test_that_is_too_large_is_rejected(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        await add(ann, "/t_notes", title="x" * 900_000, stars=1)
        response = await ann.post("/t_notes", json={"title": "x" * 1024 * 1024, "stars": 1})
        check(response, 413, "payload_too_large")

    async def test_with_half_a_character_in_a_name_is_rejected(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        headers = {"Content-Type": "application/json"}
        response = await ann.post("/t_notes", content=b'{"\\ud800": 1}', headers=headers)
        check(response, 422, "validation_error")

    async def test_that_refers_to_nothing_is_reported(self, client: Client, app: FastAPI) -> None:
        rows = db_of(app).state.backend.repository(Note, SERVICE)
        app.dependency_overrides[current_caller] = lambda: Caller("authenticated", uuid4())
        response = await client.post("/t_notes", json={"title": "x", "stars": 1})
        check(response, 409, "foreign_key_violation")
        assert await rows.count() == 0
