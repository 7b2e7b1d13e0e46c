"""Records over HTTP, on every backend: lists, and the versions of rows."""

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI
from tests.http.records import add, check, shared_records_app, titles

from amphibase import Settings
from amphibase.testing.client import Client, open_client


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return shared_records_app(settings)


@pytest.fixture(scope="class")
async def ann_with_notes(shared_settings: Settings) -> AsyncIterator[Client]:
    """A user with nine notes, once for all tests: they only read."""
    async with open_client(shared_records_app(shared_settings)) as client:
        ann = await client.as_user("ann@example.com")
        for number in range(9):
            await add(ann, "/t_notes", title=f"note {number}", stars=number % 3)
        bob = await client.as_user("bob@example.com")
        await add(bob, "/t_notes", title="note of bob", stars=1)
        yield ann


class TestLists:
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
    async def test_are_filtered_and_ordered(
        self, ann_with_notes: Client, query: str, numbers: str
    ) -> None:
        found = await titles(ann_with_notes, f"/t_notes?{query}")
        assert found == [f"note {number}" for number in numbers]

    async def test_are_case_sensitive_by_default(self, ann_with_notes: Client) -> None:
        assert await titles(ann_with_notes, "/t_notes?title=like.NOTE*") == []

    @pytest.mark.parametrize("order", ["", "&order=stars.desc", "&order=stars,title.desc"])
    async def test_are_paged_through_once_each(self, ann_with_notes: Client, order: str) -> None:
        whole = await titles(ann_with_notes, f"/t_notes?{order}")
        found, cursor, pages = [], "", 0
        while True:
            reply = await ann_with_notes.get(f"/t_notes?limit=4{order}{cursor}")
            assert reply.status_code == 200, reply.text
            response = reply.json()
            found += [item["title"] for item in response["items"]]
            pages += 1
            if response["next_cursor"] is None:
                break
            cursor = f"&cursor={response['next_cursor']}"
        assert (found, pages) == (whole, 3)

    async def test_reject_cursors_of_others(self, ann_with_notes: Client) -> None:
        cursor = (await ann_with_notes.get("/t_notes?limit=4")).json()["next_cursor"]
        for query in (
            f"cursor={cursor}&stars=eq.1",
            f"cursor={cursor}&order=title",
            f"cursor={cursor[:-2]}",
            "cursor=x",
        ):
            check(await ann_with_notes.get(f"/t_notes?{query}"), 400, "invalid_cursor")


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

    @pytest.mark.parametrize("condition", ['W/"1"', '"7", "1"', 'W/"7",W/"1"', '"1", "7"'])
    async def test_may_be_weak_and_several(self, ann: Client, condition: str) -> None:
        document = await add(ann, "/t_documents", title="a")
        path, headers = f"/t_documents/{document['id']}", {"If-Match": condition}
        assert (await ann.patch(path, json={"title": "b"}, headers=headers)).status_code == 200
        check(await ann.patch(path, json={"title": "c"}, headers=headers), 409, "stale_version")
        check(await ann.delete(path, headers=headers), 409, "stale_version")
        assert (await ann.get(path)).json()["title"] == "b"

    async def test_may_be_any(self, ann: Client) -> None:
        document = await add(ann, "/t_documents", title="a")
        path = f"/t_documents/{document['id']}"
        any_version = {"If-Match": "*"}
        assert (await ann.patch(path, json={"title": "b"}, headers=any_version)).status_code == 200
        assert (await ann.delete(path, headers=any_version)).status_code == 204

    @pytest.mark.parametrize(
        "given",
        [
            "1",
            '"x"',
            '""',
            '"1',
            '"1" "2"',
            '"1", x',
            '"-1"',
            '"99999999999"',
            "",
            '"١"',
            '"1",' * 11,
        ],
    )
    async def test_must_be_well_formed(self, ann: Client, given: str) -> None:
        document = await add(ann, "/t_documents", title="a")
        path = f"/t_documents/{document['id']}"
        headers = {"If-Match": given.encode()}
        for method, body in (("PATCH", {"title": "b"}), ("DELETE", None)):
            response = await ann.request(method, path, json=body, headers=headers)  # type: ignore[arg-type]
            check(response, 422, "validation_error", "If-Match")
        assert (await ann.get(path)).json() == document
