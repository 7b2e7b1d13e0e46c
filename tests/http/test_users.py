"""/users over HTTP, on every backend."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from tests.column_models import Receipt
from tests.conftest import settings_on

from amphibase import SERVICE, CurrentUser, Settings, User
from amphibase.testing.client import PASSWORD, Client

NOBODY = UUID(int=0)
CREDENTIALS = {"email": "ann@example.com", "password": PASSWORD}


@pytest.fixture(params=["sqlite", "postgres", "supabase"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    with settings_on(request.param, request, tmp_path) as opened:
        yield opened


class TestMe:
    async def test_changes_its_name(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com", name="Ann")
        changed = await ann.patch("/users/me", json={"name": "Anna"})
        assert changed.json()["name"] == "Anna"
        begun, updated = (changed.json()[name] for name in ("created_at", "updated_at"))
        assert datetime.fromisoformat(updated) > datetime.fromisoformat(begun)
        assert (await ann.get("/users/me")).json() == changed.json()

    @pytest.mark.parametrize("field", ["id", "is_active", "email", "admin", "created_at"])
    async def test_cannot_change_what_the_server_sets(self, client: Client, field: str) -> None:
        ann = await client.as_user("ann@example.com")
        response = await ann.patch("/users/me", json={field: "x"})
        assert response.status_code == 422
        assert response.json()["errors"][0]["field"] == field

    async def test_deletes_itself(self, client: Client) -> None:
        ann = await client.as_user("ann@example.com")
        assert (await ann.delete("/users/me")).status_code == 204
        assert (await ann.get("/users/me")).status_code == 401

    async def test_with_rows_that_refer_to_it_is_kept_whole(
        self, app: FastAPI, client: Client
    ) -> None:
        """A user who has rows that do not go with the profile is deleted wholly or not at all."""
        state = app.state.amphibase.state
        ann = await client.as_user("ann@example.com")
        receipts = state.backend.repository(Receipt, SERVICE)
        receipt = await receipts.add(Receipt(user_id=ann.user.id))
        rejected = await ann.delete("/users/me")
        assert (rejected.status_code, rejected.json()["code"]) == (409, "foreign_key_violation")
        assert (await ann.get("/users/me")).status_code == 200
        await receipts.delete(receipt.id)
        assert (await ann.delete("/users/me")).status_code == 204
        assert await state.backend.accounts.get(ann.user.id) is None

    async def test_left_behind_gives_up_its_address(self, app: FastAPI, client: Client) -> None:
        """A profile without an account, kept by rows that refer to it, stops no sign-up."""
        state = app.state.amphibase.state
        ann = await client.as_user("ann@example.com")
        await state.backend.repository(Receipt, SERVICE).add(Receipt(user_id=ann.user.id))
        await state.backend.accounts.delete(ann.user.id)
        again = await client.post("/auth/sign-up", json=CREDENTIALS)
        assert again.status_code == 201
        left = await state.backend.repository(User, SERVICE).get(ann.user.id)
        assert (left.email, left.is_active) == (f"deleted-{left.id}@invalid", False)

    async def test_follows_when_two_accounts_swap_their_addresses(
        self, app: FastAPI, client: Client
    ) -> None:
        """A profile that is behind its account is no obstacle to the address's new owner."""
        accounts = app.state.amphibase.state.backend.accounts
        ann = await client.as_user("ann@example.com")
        bob = await client.as_user("bob@example.com")
        await accounts.update(ann.user.id, email="spare@example.com")
        await accounts.update(bob.user.id, email="ann@example.com")
        await accounts.update(ann.user.id, email="bob@example.com")
        for email, who in (("ann@example.com", bob), ("bob@example.com", ann)):
            response = await client.post("/auth/sign-in", json=CREDENTIALS | {"email": email})
            assert response.json()["user"]["id"] == str(who.user.id)
        assert (await ann.get("/users/me")).json()["email"] == "bob@example.com"
        assert (await bob.get("/users/me")).json()["email"] == "ann@example.com"

    @pytest.mark.parametrize("path", ["/users/me", "/whoami"])
    async def test_is_let_in_again_when_a_ban_has_run_out(
        self, app: FastAPI, client: Client, path: str
    ) -> None:
        """A profile that still says inactive is brought in step by the next request."""

        @app.get("/whoami")
        async def whoami(user: CurrentUser) -> dict[str, bool]:
            return {"is_active": user.is_active}

        ann = await client.as_user("ann@example.com")
        profiles = app.state.amphibase.state.backend.repository(User, SERVICE)
        await profiles.update(ann.user.id, is_active=False)
        assert (await ann.get(path)).json()["is_active"] is True

    async def test_is_nobody_without_a_token(self, client: Client) -> None:
        response = await client.get("/users/me")
        assert (response.status_code, response.json()["code"]) == (401, "not_authenticated")


class TestAdministrators:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/users"),
            ("POST", "/users"),
            ("GET", f"/users/{NOBODY}"),
            ("PATCH", f"/users/{NOBODY}"),
            ("DELETE", f"/users/{NOBODY}"),
            ("POST", f"/users/{NOBODY}/ban"),
            ("DELETE", f"/users/{NOBODY}/ban"),
        ],
    )
    async def test_alone_may_do_what_is_theirs(
        self, client: Client, method: str, path: str
    ) -> None:
        body = {"email": "x@example.com"} if (method, path) == ("POST", "/users") else {}
        ann = await client.as_user("ann@example.com")
        response = await ann.request(method, path, json=body)
        assert (response.status_code, response.json()["code"]) == (403, "not_admin")
        assert (await client.request(method, path, json=body)).status_code == 401
        admin = await client.as_user("root@example.com", admin=True)
        assert (await admin.request(method, path, json=body)).status_code in (200, 201, 404)

    async def test_make_users_who_can_sign_in(self, client: Client) -> None:
        admin = await client.as_user("root@example.com", admin=True)
        new = {"email": "Bob@example.com", "password": "a password of bob", "name": "Bob"}
        response = await admin.post("/users", json=new)
        assert response.status_code == 201
        assert response.json()["email"] == "bob@example.com"
        again = await admin.post("/users", json=new)
        assert (again.status_code, again.json()["code"]) == (400, "email_already_registered")
        body = {"email": new["email"], "password": new["password"]}
        assert (await client.post("/auth/sign-in", json=body)).status_code == 200

    async def test_page_through_all_users_once_each(self, client: Client) -> None:
        admin = await client.as_user("root@example.com", admin=True)
        for n in range(6):
            await admin.post("/users", json={"email": f"user{n}@example.com"})
        found, cursor = [], None
        while True:
            parameters = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
            page = (await admin.get("/users", params=parameters)).json()
            found += [user["email"] for user in page["items"]]
            if (cursor := page["next_cursor"]) is None:
                break
        assert found == [*(f"user{n}@example.com" for n in range(5, -1, -1)), "root@example.com"]

    @pytest.mark.parametrize(
        ("parameters", "found"),
        [
            ({"email": "BOB@example.com"}, {"bob"}),
            ({"name": "robert"}, {"bob"}),
            ({"name": "%"}, {"percent"}),
            ({"is_active": "false"}, {"ann"}),
            ({"is_active": "true", "name": "e"}, {"bob", "percent"}),
        ],
    )
    async def test_filter_the_list(
        self, client: Client, parameters: dict[str, str], found: set[str]
    ) -> None:
        admin = await client.as_user("root@example.com", admin=True)
        for who, name in (("ann", "Anne"), ("bob", "Robert"), ("percent", "100 % here")):
            response = await admin.post(
                "/users", json={"email": f"{who}@example.com", "name": name}
            )
            if who == "ann":
                await admin.post(f"/users/{response.json()['id']}/ban", json={})
        page = (await admin.get("/users", params=parameters)).json()
        assert {user["email"].split("@")[0] for user in page["items"]} == found

    async def test_a_cursor_of_another_list_is_rejected(self, client: Client) -> None:
        admin = await client.as_user("root@example.com", admin=True)
        await admin.post("/users", json={"email": "ann@example.com"})
        cursor = (await admin.get("/users", params={"limit": 1})).json()["next_cursor"]
        tampered = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
        for parameters in ({"cursor": cursor, "name": "x"}, {"cursor": tampered}):
            response = await admin.get("/users", params=parameters)
            assert (response.status_code, response.json()["code"]) == (400, "invalid_cursor")

    async def test_change_a_user(self, client: Client) -> None:
        admin = await client.as_user("root@example.com", admin=True)
        bob = await client.as_user("bob@example.com")
        assert bob.user is not None
        changes = {"email": "robert@example.com", "name": "Robert", "admin": True}
        changed = await admin.patch(f"/users/{bob.user.id}", json=changes)
        assert changed.json()["email"] == "robert@example.com"
        assert changed.json()["name"] == "Robert"
        promoted = await client.as_user("robert@example.com", admin=True)
        assert (await promoted.get("/users")).status_code == 200
        response = await admin.patch(f"/users/{uuid4()}", json=changes)
        assert response.status_code == 404

    async def test_a_ban_ends_sessions_at_once_and_can_be_lifted(self, client: Client) -> None:
        admin = await client.as_user("root@example.com", admin=True)
        bob = await client.as_user("bob@example.com")
        banned = await admin.post(f"/users/{bob.user.id}/ban", json={"seconds": 3600})
        assert banned.json()["is_active"] is False
        assert (await bob.get("/users/me")).status_code in (401, 403)
        lifted = await admin.delete(f"/users/{bob.user.id}/ban")
        assert lifted.json()["is_active"] is True
        bob = await client.as_user("bob@example.com")
        assert (await bob.get("/users/me")).status_code == 200

    async def test_delete_a_user(self, client: Client) -> None:
        admin = await client.as_user("root@example.com", admin=True)
        bob = await client.as_user("bob@example.com")
        for expected in (204, 404):
            response = await admin.delete(f"/users/{bob.user.id}")
            assert response.status_code == expected
        assert (await admin.get(f"/users/{bob.user.id}")).status_code == 404
        assert (await bob.get("/users/me")).status_code == 401


AWKWARD = ["", "Ann", "é ü 漢字 🐸", '"quoted" \\ /slash/', "<b>&amp;</b>", "\u2028\n\t", "x" * 100]


class TestTheLeanRoute:
    @pytest.mark.parametrize("name", AWKWARD)
    async def test_responds_as_the_documented_one_to_the_byte(
        self, app: FastAPI, client: Client, name: str
    ) -> None:
        ann = await client.as_user("ann@example.com", name=name)
        fast = await ann.get("/users/me")
        # An override, of whatever, leaves the fast path.
        app.dependency_overrides[len] = len
        documented = await ann.get("/users/me")
        assert fast.json()["name"] == name
        assert fast.content == documented.content
        for response in (fast, documented):
            del response.headers["x-request-id"]
        assert fast.headers == documented.headers

    @pytest.mark.parametrize("token", [None, "", "nonsense"])
    async def test_rejects_as_the_documented_one(
        self, app: FastAPI, client: Client, token: str | None
    ) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        fast = await client.get("/users/me", headers=headers)
        app.dependency_overrides[len] = len
        documented = await client.get("/users/me", headers=headers)
        assert fast.status_code == documented.status_code == 401
        assert fast.json()["code"] == documented.json()["code"]
