"""Signing up and in with an address and a password."""

import asyncio
from collections import Counter
from typing import Any

import psycopg
import pytest
from tests.gateway.auth.api import PASSWORD, Api, rejection, time_of
from tests.gateway.auth.conftest import ServeAuth


async def test_a_sign_up_responds_with_a_session_where_addresses_need_no_confirmation(
    api: Api,
) -> None:
    response = await api.sign_up(data={"name": "Ann"})
    user = response["user"]
    assert response["token_type"] == "bearer"
    assert response["expires_in"] == 3600
    assert set(response) == {
        "access_token",
        "token_type",
        "expires_in",
        "expires_at",
        "refresh_token",
        "user",
    }
    assert user["identities"][0]["identity_data"]["name"] == "Ann"
    assert user["email_confirmed_at"]
    # The service does not read again what the database derives and holds.
    assert "confirmed_at" not in user
    assert user["identities"][0]["identity_data"]["email_verified"] is True
    read = (await api.get("/user", token=response["access_token"])).json()
    assert read["confirmed_at"] == user["email_confirmed_at"]
    assert read["identities"][0]["identity_data"]["email_verified"] is False
    assert time_of(user["last_sign_in_at"]) <= time_of(user["updated_at"])
    assert user["user_metadata"] == {
        "name": "Ann",
        "sub": user["id"],
        "email": "ann@example.com",
        "email_verified": True,
        "phone_verified": False,
    }


async def test_the_access_token_has_the_claims_of_a_project(api: Api) -> None:
    response = await api.sign_up()
    claims = dict(api.tokens.verify(response["access_token"]))
    user = response["user"]
    assert claims.pop("exp") == response["expires_at"]
    assert claims.pop("iat") == response["expires_at"] - 3600
    (method,) = claims.pop("amr")
    assert method["method"] == "password"
    assert len(claims.pop("session_id")) == 36
    assert claims == {
        "iss": api.url,
        "sub": user["id"],
        "aud": "authenticated",
        "email": "ann@example.com",
        "phone": "",
        "app_metadata": {"provider": "email", "providers": ["email"]},
        "user_metadata": user["user_metadata"],
        "role": "authenticated",
        "aal": "aal1",
        "is_anonymous": False,
    }


async def test_a_sign_up_responds_with_the_bare_user_while_the_address_awaits_confirmation(
    confirming: Api,
) -> None:
    user = await confirming.sign_up()
    (identity,) = user.pop("identities")
    assert set(user) == {
        "id",
        "aud",
        "role",
        "email",
        "phone",
        "confirmation_sent_at",
        "app_metadata",
        "user_metadata",
        "created_at",
        "updated_at",
        "is_anonymous",
    }
    assert set(identity) == {
        "identity_id",
        "id",
        "user_id",
        "identity_data",
        "provider",
        "last_sign_in_at",
        "created_at",
        "updated_at",
        "email",
    }
    assert identity["id"] == identity["user_id"] == user["id"]
    assert rejection(await confirming.sign_in()) == (400, "email_not_confirmed")


async def test_a_repeated_sign_up_is_rejected_where_no_confirmation_is_needed(api: Api) -> None:
    await api.sign_up()
    again = await api.post("/signup", {"email": "ANN@example.com", "password": "another one"})
    assert rejection(again) == (422, "user_already_exists")


async def test_of_many_sign_ups_at_once_one_wins(api: Api) -> None:
    body = {"email": "ann@example.com", "password": PASSWORD}
    responses = await asyncio.gather(*(api.post("/signup", body) for _ in range(20)))
    assert Counter(response.status_code for response in responses) == {200: 1, 422: 19}
    assert {rejection(each) for each in responses if each.status_code != 200} == {
        (422, "user_already_exists")
    }
    assert len(api.rows("SELECT 1 FROM auth.users")) == 1
    assert len(api.rows("SELECT 1 FROM auth.identities")) == 1


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"email": "ann@example.com"}, 400, "validation_failed"),
        ({"email": "ann", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": f"{'a' * 250}@b.com", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "ann@example.com\nBcc: x@y.z", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "ann@example.com", "password": "short"}, 422, "weak_password"),
        ({"email": "ann@example.com", "password": "x" * 2000}, 400, "validation_failed"),
        ({"phone": "+4912345", "password": PASSWORD}, 400, "phone_provider_disabled"),
        ({"email": 5, "password": PASSWORD}, 400, "bad_json"),
        ({"email": "ann@example.com", "password": PASSWORD, "data": [1]}, 400, "bad_json"),
        ({"email": "ann@example.com", "password": "nul \0 byte"}, 400, "bad_json"),
        (["email"], 400, "bad_json"),
        (
            {"email": "ann@example.com", "password": PASSWORD, "code_challenge": "x" * 50},
            400,
            "validation_failed",
        ),
        ({}, 422, "anonymous_provider_disabled"),
    ],
)
async def test_a_sign_up_that_cannot_be_is_rejected(
    api: Api, body: Any, status: int, code: str
) -> None:
    assert rejection(await api.post("/signup", body)) == (status, code)


async def test_nobody_signs_up_where_it_is_closed(serve: ServeAuth) -> None:
    closed = await serve(disable_signup=True, external_anonymous_users_enabled=True)
    body = {"email": "ann@example.com", "password": PASSWORD}
    assert rejection(await closed.post("/signup", body)) == (422, "signup_disabled")
    assert rejection(await closed.post("/signup", {})) == (422, "signup_disabled")
    assert rejection(await closed.post("/otp", {"email": "ann@example.com"})) == (
        422,
        "signup_disabled",
    )


async def test_passwords_need_the_characters_that_are_requested(serve: ServeAuth) -> None:
    strict = await serve(password_required_characters="abcdefghijklmnopqrstuvwxyz:0123456789")
    weak = await strict.post("/signup", {"email": "ann@example.com", "password": "onlyletters"})
    assert weak.status_code == 422
    assert weak.json()["weak_password"] == {"reasons": ["characters"]}
    body = {"email": "ann@example.com", "password": "letters4"}
    assert (await strict.post("/signup", body)).status_code == 200


@pytest.mark.parametrize("connections", [1, 10], ids=["on the engine", "pipelined"])
async def test_a_sign_in_shows_the_user_with_identities_and_factors(
    serve: ServeAuth, connections: int
) -> None:
    api = await serve(db_max_pool_size=connections)
    token = (await api.sign_up())["access_token"]
    factor = {"factor_type": "totp", "friendly_name": "phone"}
    assert (await api.post("/factors", factor, token=token)).status_code == 200
    session = (await api.sign_in()).json()
    user = session["user"]
    assert user == (await api.get("/user", token=session["access_token"])).json()
    assert (len(user["identities"]), len(user["factors"])) == (1, 1)


async def test_a_password_signs_in_whatever_the_case_of_the_address(api: Api) -> None:
    await api.sign_up()
    response = await api.sign_in("Ann@Example.com")
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert response.json()["user"]["email"] == "ann@example.com"


@pytest.mark.parametrize("email", ["ann@example.com", "nobody@example.com", "no address"])
async def test_a_wrong_password_and_an_unknown_address_get_the_same_response(
    api: Api, email: str
) -> None:
    await api.sign_up()
    response = await api.sign_in(email, "wrong password")
    assert response.status_code == 400
    assert response.json() == {
        "code": "invalid_credentials",
        "message": "Invalid login credentials",
    }


async def test_a_password_that_has_become_too_weak_still_signs_in_and_is_reported(
    serve: ServeAuth,
) -> None:
    await (await serve()).sign_up()
    strict = await serve(password_min_length=30)
    response = await strict.sign_in()
    assert response.status_code == 200
    assert response.json()["weak_password"]["reasons"] == ["length"]


async def test_a_banned_user_can_neither_sign_in_nor_refresh_nor_call(api: Api) -> None:
    signed_in = await api.sign_up()
    await api.ban(signed_in["user"]["id"])
    assert rejection(await api.sign_in()) == (400, "user_banned")
    assert rejection(await api.refresh(signed_in["refresh_token"])) == (400, "user_banned")
    assert rejection(await api.get("/user", token=signed_in["access_token"])) == (
        403,
        "user_banned",
    )


async def test_an_anonymous_user_has_a_session_and_no_identity(serve: ServeAuth) -> None:
    api = await serve(external_anonymous_users_enabled=True)
    response = (await api.post("/signup", {"data": {"theme": "dark"}})).json()
    user = response["user"]
    assert (user["email"], user["phone"], user["is_anonymous"]) == ("", "", True)
    assert user["identities"] == []
    assert user["app_metadata"] == {}
    assert user["user_metadata"] == {"theme": "dark"}
    assert api.tokens.verify(response["access_token"])["is_anonymous"] is True


async def test_an_anonymous_user_becomes_a_permanent_one_by_an_address(serve: ServeAuth) -> None:
    api = await serve(external_anonymous_users_enabled=True)
    response = (await api.post("/signup", {})).json()
    token = response["access_token"]
    alone = await api.put("/user", {"password": PASSWORD}, token=token)
    assert rejection(alone) == (422, "validation_failed")
    body = {"email": "ann@example.com", "password": PASSWORD}
    user = (await api.put("/user", body, token=token)).json()
    assert user["id"] == response["user"]["id"]
    assert user["is_anonymous"] is False
    assert user["identities"][0]["identity_data"]["email"] == "ann@example.com"
    assert (await api.sign_in()).json()["user"]["id"] == user["id"]


async def test_a_phone_and_an_unknown_grant_are_rejected_by_name(api: Api) -> None:
    phone = {"phone": "+4912345", "password": PASSWORD}
    response = await api.post("/token?grant_type=password", phone)
    assert rejection(response) == (422, "phone_provider_disabled")
    for body in ({"chain": "solana"}, {"chain": "ethereum"}, {}):
        wallet = await api.post("/token?grant_type=web3", body)
        assert rejection(wallet) == (422, "web3_provider_disabled")
    unknown = await api.post("/token?grant_type=nothing", {})
    assert rejection(unknown) == (400, "invalid_credentials")
    assert unknown.json()["message"] == "unsupported_grant_type"


async def test_a_phone_number_and_a_password_do_where_numbers_need_no_confirmation(
    serve: ServeAuth,
) -> None:
    api = await serve(external_phone_enabled=True, sms_autoconfirm=True)
    body = {"phone": "+49 123 456", "password": PASSWORD}
    user = (await api.post("/signup", body)).json()["user"]
    assert (user["phone"], user["email"]) == ("49123456", "")
    assert user["phone_confirmed_at"]
    assert "confirmed_at" not in user
    assert user["app_metadata"] == {"provider": "phone", "providers": ["phone"]}
    assert user["identities"][0]["identity_data"] == {
        "sub": user["id"],
        "email_verified": False,
        "phone_verified": False,
    }
    assert rejection(await api.post("/signup", body)) == (422, "user_already_exists")
    wrong = await api.post("/token?grant_type=password", {**body, "password": "wrong"})
    assert rejection(wrong) == (400, "invalid_credentials")
    signed_in = (await api.post("/token?grant_type=password", body)).json()
    assert api.tokens.verify(signed_in["access_token"])["phone"] == "49123456"
    changed = await api.put("/user", {"phone": "49999"}, token=signed_in["access_token"])
    assert changed.json()["phone"] == "49999"
    body["phone"] = "49999"
    assert (await api.post("/token?grant_type=password", body)).status_code == 200


async def test_a_sign_in_is_a_change_of_the_user(api: Api) -> None:
    created = await api.create()
    user = (await api.sign_in()).json()["user"]
    assert user["created_at"] == created["created_at"]
    assert user["updated_at"] == user["last_sign_in_at"]
    assert time_of(user["updated_at"]) > time_of(created["updated_at"])


async def test_nobody_is_shown_how_the_next_user_of_their_address_signs_in(api: Api) -> None:
    """The address becomes another's in the middle of a sign-in."""
    ann = await api.create()
    bob = await api.create("bob@example.com")
    waiting = (
        "SELECT 1 FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with psycopg.connect(api.database) as writer:
        writer.execute("LOCK TABLE auth.identities")
        signing_in = asyncio.create_task(api.sign_in())
        while not await asyncio.to_thread(api.rows, waiting):
            pass
        for email, user in (("old@example.com", ann), ("ann@example.com", bob)):
            writer.execute("UPDATE auth.users SET email = %s WHERE id = %s", (email, user["id"]))
    user = (await signing_in).json()["user"]
    assert user["id"] == ann["id"]
    assert {identity["user_id"] for identity in user["identities"]} <= {ann["id"]}


async def test_a_sign_in_that_fails_executes_as_many_statements_without_an_account(
    serve: ServeAuth, trips: list[int]
) -> None:
    api = await serve(external_phone_enabled=True, sms_autoconfirm=True, mailer_autoconfirm=False)
    await api.create()
    await api.create("bob@example.com", phone="49123", phone_confirm=True)
    for name, addresses in (
        ("email", ("ann@example.com", "eve@example.com")),
        ("phone", ("49123", "49124")),
    ):
        counts = []
        for address in addresses:
            trips.clear()
            body = {name: address, "password": "wrong"}
            rejected = await api.post("/token?grant_type=password", body)
            assert rejection(rejected) == (400, "invalid_credentials")
            counts.append([*trips])
        assert counts[0] == counts[1] != []
