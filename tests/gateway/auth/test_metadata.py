"""`user_metadata`, `app_metadata` and identities, which policies read in tokens."""

from typing import Any

import pytest
from tests.gateway.auth.api import PASSWORD, SERVICE, Api
from tests.gateway.auth.conftest import ServeAuth

DATA = {"team": 5}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/invite", {}),
        ("/admin/generate_link", {"type": "invite"}),
        ("/admin/generate_link", {"type": "signup", "password": PASSWORD}),
        ("/admin/generate_link", {"type": "magiclink"}),
    ],
)
async def test_a_user_that_an_administrator_adds_has_the_metadata_that_were_sent_alone(
    api: Api, path: str, body: dict[str, Any]
) -> None:
    body = {**body, "email": "ann@example.com", "data": DATA}
    user = (await api.post(path, body, token=SERVICE)).json()
    assert user["user_metadata"] == DATA
    (identity,) = user["identities"]
    assert identity["identity_data"] == {
        "sub": user["id"],
        "email": "ann@example.com",
        "email_verified": False,
        "phone_verified": False,
    }


async def test_members_are_in_the_order_of_their_names_at_every_depth(confirming: Api) -> None:
    """As Go writes maps; Postgres has the shorter names first, and a sign-up that waits none."""
    data = {"c": [{"d": 1, "bb": 2}], "bb": {"z": 1, "aa": 2}}
    waiting = await confirming.sign_up(data=data)
    listed = await confirming.get("/admin/audit", token=SERVICE)
    user = await confirming.create("bob@example.com", user_metadata=data)
    for shown in (waiting, user):
        metadata = shown["user_metadata"]
        assert list(metadata) == sorted(metadata)
        assert [*metadata["bb"], *metadata["c"][0]] == ["aa", "z", "bb", "d"]
        (identity,) = shown["identities"]
        assert list(identity["identity_data"]) == sorted(identity["identity_data"])
    assert listed.json()
    for entry in listed.json():
        assert list(entry["payload"]) == sorted(entry["payload"])


async def test_an_accepted_invitation_adds_that_the_address_is_verified(api: Api) -> None:
    body = {"email": "ann@example.com", "data": DATA}
    await api.post("/invite", body, token=SERVICE)
    accepted = {"type": "invite", "email": "ann@example.com", "token": api.message().code}
    user = (await api.post("/verify", accepted)).json()["user"]
    assert user["user_metadata"] == {**DATA, "email_verified": True}


async def test_a_change_of_address_renews_the_address_in_the_metadata_of_a_sign_up_alone(
    serve: ServeAuth,
) -> None:
    api = await serve(mailer_secure_email_change_enabled=False)
    signed_up = await api.sign_up()
    await api.create("bob@example.com")
    by_admin = (await api.sign_in("bob@example.com")).json()
    for session in (signed_up, by_admin):
        new = {"email": f"new.{session['user']['email']}"}
        await api.put("/user", new, token=session["access_token"])
        await api.client.get(api.message(new["email"]).link)
    users = [
        (await api.get("/user", token=session["access_token"])).json()
        for session in (signed_up, by_admin)
    ]
    assert users[0]["user_metadata"] == {
        "sub": users[0]["id"],
        "email": "new.ann@example.com",
        "email_verified": True,
        "phone_verified": False,
    }
    assert users[1]["user_metadata"] == {"email_verified": True}


async def test_a_sign_up_by_number_does_not_claim_that_the_number_is_verified(
    serve: ServeAuth,
) -> None:
    api = await serve(external_phone_enabled=True, sms_autoconfirm=True)
    body = {"phone": "49123456", "password": PASSWORD, "data": DATA}
    user = (await api.post("/signup", body)).json()["user"]
    assert user["user_metadata"] == {
        **DATA,
        "sub": user["id"],
        "email_verified": False,
        "phone_verified": False,
    }


@pytest.mark.parametrize("confirmed", [False, True])
async def test_a_number_of_an_administrator_leaves_the_metadata(api: Api, confirmed: bool) -> None:
    user = await api.create(email=None, phone="49123456", phone_confirm=confirmed)
    path = f"/admin/users/{user['id']}"
    changed = (await api.put(path, {"phone_confirm": True}, token=SERVICE)).json()
    assert user["user_metadata"] == changed["user_metadata"] == {}
    assert changed["phone_confirmed_at"]


async def test_an_anonymous_user_who_needs_no_confirmation_has_no_provider(
    serve: ServeAuth,
) -> None:
    api = await serve(
        external_anonymous_users_enabled=True, external_phone_enabled=True, sms_autoconfirm=True
    )
    for change in ({"email": "ann@example.com"}, {"phone": "49123456"}):
        token = (await api.post("/signup", {"data": DATA})).json()["access_token"]
        user = (await api.put("/user", change, token=token)).json()
        verified = {"email_verified": True} if "email" in change else {}
        assert user["is_anonymous"] is False
        assert user["app_metadata"] == {}
        assert user["user_metadata"] == {**DATA, **verified}


async def test_an_anonymous_user_who_confirms_an_address_has_its_provider(
    serve: ServeAuth,
) -> None:
    api = await serve(external_anonymous_users_enabled=True, mailer_autoconfirm=False)
    token = (await api.post("/signup", {"data": DATA})).json()["access_token"]
    await api.put("/user", {"email": "ann@example.com"}, token=token)
    await api.client.get(api.message().link)
    user = (await api.get("/user", token=token)).json()
    assert user["app_metadata"] == {"provider": "email", "providers": ["email"]}
    assert user["user_metadata"] == {**DATA, "email_verified": True}


@pytest.mark.parametrize("change", [{"email": "new@example.com"}, {"phone": "49123456"}])
async def test_a_provider_that_an_administrator_removed_stays_removed(
    api: Api, change: dict[str, str]
) -> None:
    path = f"/admin/users/{(await api.create())['id']}"
    await api.put(path, {"app_metadata": {"provider": None}}, token=SERVICE)
    changed = (await api.put(path, change, token=SERVICE)).json()
    assert changed["app_metadata"] == {"providers": ["email"]}


async def test_an_administrator_does_not_change_the_audience_of_a_user(api: Api) -> None:
    user = await api.create(aud="partners")
    path = f"/admin/users/{user['id']}"
    changed = (await api.put(path, {"aud": "others"}, token=SERVICE)).json()
    assert user["aud"] == changed["aud"] == "partners"
