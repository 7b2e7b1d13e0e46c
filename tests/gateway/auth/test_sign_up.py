"""Whose password counts when several people sign up with one address, and who learns of it."""

import asyncio
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from tests.gateway.auth.api import PASSWORD, SERVICE, Api, Message, rejection
from tests.gateway.auth.conftest import ServeAuth

ANN = "ann@example.com"
STRANGE = "a password of a stranger"


async def sign_up(api: Api, password: str, **data: Any) -> dict[str, Any]:
    body = {"email": ANN, "password": password, "data": data}
    response = await api.post("/signup", body)
    assert response.status_code == 200, response.text
    user: dict[str, Any] = response.json()
    return user


async def sign_up_in_order(api: Api, order: str) -> dict[str, Message]:
    """Sign up as the stranger and the owner; return the email that each sign-up sent."""
    passwords = {"stranger": STRANGE, "owner": PASSWORD}
    messages = {}
    for who in order.split(", "):
        await sign_up(api, passwords[who], name=who)
        messages[who] = api.message()
    return messages


async def fragment_of(api: Api, message: Message) -> dict[str, str]:
    response = await api.client.get(message.link)
    assert response.status_code == 303
    return dict(parse_qsl(urlsplit(response.headers["location"]).fragment))


MATRIX = [
    (order, proof)
    for order in ("stranger, owner", "owner, stranger", "stranger")
    for proof in ("owner", "stranger", "/otp", "/recover", "/invite")
    if proof in order or proof != "owner"
]


@pytest.mark.parametrize(("order", "proof"), MATRIX)
async def test_the_password_of_another_user_never_signs_in(
    serve: ServeAuth, order: str, proof: str
) -> None:
    # The one case that the emails alone cannot decide: only the stranger has signed up, and the
    # owner follows their link. The setting decides it.
    asks = order == "stranger" == proof
    api = await serve(mailer_autoconfirm=False, mailer_confirmation_asks_password=asks)
    messages = await sign_up_in_order(api, order)
    if proof.startswith("/"):
        await api.post(proof, {"email": ANN}, token=SERVICE)
        messages[proof] = api.message()
    fragment = await fragment_of(api, messages[proof])
    assert fragment["access_token"]
    assert rejection(await api.sign_in(password=STRANGE)) == (400, "invalid_credentials")
    assert fragment["type"] == {"/otp": "signup", "/invite": "invite"}.get(proof, "recovery")
    assert api.rows("SELECT 1 FROM auth.pending_sign_ups") == []
    ((metadata,),) = api.rows("SELECT raw_user_meta_data FROM auth.users")
    assert metadata.get("name") == (proof if proof in ("owner", "stranger") else None)


async def test_the_password_of_the_only_sign_up_counts(confirming: Api) -> None:
    await sign_up(confirming, PASSWORD, name="Ann")
    assert rejection(await confirming.sign_in()) == (400, "email_not_confirmed")
    assert (await fragment_of(confirming, confirming.message()))["type"] == "signup"
    signed_in = await confirming.sign_in()
    assert signed_in.json()["user"]["user_metadata"]["name"] == "Ann"


async def test_the_same_password_twice_counts(confirming: Api) -> None:
    messages = await sign_up_in_order(confirming, "owner, owner")
    await fragment_of(confirming, messages["owner"])
    assert (await confirming.sign_in()).status_code == 200


async def test_a_contested_sign_up_is_distinguished_by_who_posts_its_code(confirming: Api) -> None:
    messages = await sign_up_in_order(confirming, "stranger, owner")
    body = {"type": "signup", "email": ANN, "token": messages["owner"].code}
    session = (await confirming.post("/verify", body)).json()
    assert session["password_required"] is True
    changed = {"password": "one of my own"}
    await confirming.put("/user", changed, token=session["access_token"])
    assert (await confirming.sign_in(password="one of my own")).status_code == 200


@pytest.mark.parametrize("by", ["invitation", "administrator"])
async def test_a_public_sign_up_adds_no_password_to_an_account_that_was_created_for_someone(
    confirming: Api, by: str
) -> None:
    data = {"team": "secret"}
    if by == "invitation":
        await confirming.post("/invite", {"email": ANN, "data": data}, token=SERVICE)
    else:
        await confirming.create(email_confirm=False, user_metadata=data, password=PASSWORD)
    await sign_up(confirming, STRANGE, name="stranger")
    await fragment_of(confirming, confirming.message())
    assert rejection(await confirming.sign_in(password=STRANGE)) == (400, "invalid_credentials")
    ((metadata,),) = confirming.rows("SELECT raw_user_meta_data FROM auth.users")
    assert metadata == {"team": "secret", "email_verified": True}
    status = (await confirming.sign_in()).status_code
    assert status == (400 if by == "invitation" else 200)


async def test_a_new_a_pending_and_a_confirmed_address_get_the_same_response(
    confirming: Api,
) -> None:
    new = await sign_up(confirming, PASSWORD, name="Ann")
    pending = await sign_up(confirming, STRANGE, name="Ann")
    await fragment_of(confirming, confirming.message())
    confirmed = await sign_up(confirming, STRANGE, name="Ann")
    again = await sign_up(confirming, STRANGE, name="Ann")
    assert new["id"] == pending["id"] != confirmed["id"] == again["id"]
    assert without_ids(new) == without_ids(pending) == without_ids(confirmed)
    assert confirmed["identities"][0]["user_id"] == confirmed["id"]
    assert list(new) == list(confirmed)


def without_ids(value: Any, name: str = "") -> Any:
    """Return a response with the versions of its ids, and without its times."""
    if name in ("id", "user_id", "identity_id", "sub"):
        return UUID(value).version
    if name.endswith("_at"):
        return None
    match value:
        case dict():
            return {key: without_ids(each, key) for key, each in value.items()}
        case list():
            return [without_ids(each) for each in value]
    return value


async def test_the_owner_of_an_account_gets_one_email_about_sign_ups_with_it(
    confirming: Api,
) -> None:
    await confirming.create()
    for _ in range(3):
        await sign_up(confirming, STRANGE)
    (message,) = confirming.inbox.emails()
    assert message["subject"] == "You have an account already"
    # As for a pending address: the client learns that its own sign-up is not confirmed.
    assert rejection(await confirming.sign_in(password=STRANGE)) == (400, "email_not_confirmed")
    assert (await confirming.sign_in()).status_code == 200


async def test_a_sixth_sign_up_sends_nothing_and_yet_counts_as_another_password(
    confirming: Api,
) -> None:
    """Five of a stranger must not shut the owner out of being noticed."""
    for _ in range(5):
        await sign_up(confirming, STRANGE)
    strange = confirming.message()
    await sign_up(confirming, PASSWORD)
    assert len(confirming.inbox.emails()) == 5
    assert (await fragment_of(confirming, strange))["type"] == "recovery"
    assert rejection(await confirming.sign_in(password=STRANGE)) == (400, "invalid_credentials")


async def test_a_resent_email_renews_the_sign_up_of_the_same_client(confirming: Api) -> None:
    await sign_up(confirming, PASSWORD)
    body = {"type": "signup", "email": ANN}
    await confirming.post("/resend", body)
    await fragment_of(confirming, confirming.message())
    assert (await confirming.sign_in()).status_code == 200


async def test_a_resent_email_brings_no_password_of_another_client(confirming: Api) -> None:
    await sign_up(confirming, STRANGE)
    confirming.rows("UPDATE auth.pending_sign_ups SET ip = '203.0.113.7'")
    strange = confirming.message()
    await confirming.post("/resend", {"type": "signup", "email": ANN})
    own = confirming.message()
    assert own.token != strange.token
    await fragment_of(confirming, own)
    assert rejection(await confirming.sign_in(password=STRANGE)) == (400, "invalid_credentials")


@pytest.mark.parametrize(
    "change",
    [
        {"password": "another password"},
        {"email_confirm": True},
        {"ban_duration": "1h"},
        {"email": "anna@example.com"},
    ],
    ids=lambda change: next(iter(change)),
)
@pytest.mark.parametrize("path", ["/recover", "/otp", "/invite"])
async def test_a_change_by_an_administrator_voids_the_emails_that_are_under_way(
    confirming: Api, path: str, change: dict[str, Any]
) -> None:
    user = await confirming.create(email_confirm=path != "/invite")
    await confirming.post(path, {"email": ANN}, token=SERVICE)
    message = confirming.message()
    await confirming.put(f"/admin/users/{user['id']}", change, token=SERVICE)
    fragment = await fragment_of(confirming, message)
    assert fragment["error_code"] == "otp_expired"
    assert confirming.rows("SELECT 1 FROM auth.one_time_tokens") == []


async def test_a_new_password_voids_recovery_and_a_change_of_address(api: Api) -> None:
    """Whoever had the account for a minute keeps no way to take its address."""
    token = (await api.sign_up())["access_token"]
    await api.post("/recover", {"email": ANN})
    recovery = api.message()
    await api.put("/user", {"email": "mallory@example.com"}, token=token)
    changes = [api.message(), api.message("mallory@example.com")]
    await api.put("/user", {"password": "another password"}, token=token)
    for message in (recovery, *changes):
        assert (await fragment_of(api, message))["error_code"] == "otp_expired"
    columns = "email, email_change, recovery_sent_at, email_change_sent_at"
    assert api.rows(f"SELECT {columns} FROM auth.users") == [(ANN, "", None, None)]


async def test_an_address_that_nobody_has_proven_is_free_for_a_change(confirming: Api) -> None:
    await confirming.create("bob@example.com")
    token = (await confirming.sign_in("bob@example.com")).json()["access_token"]
    await sign_up(confirming, STRANGE)
    await confirming.put("/user", {"email": ANN}, token=token)
    for message in (confirming.message(ANN), confirming.message("bob@example.com")):
        await fragment_of(confirming, message)
    assert confirming.rows("SELECT email FROM auth.users") == [(ANN,)]
    assert rejection(await confirming.sign_in(password=STRANGE)) == (400, "invalid_credentials")


async def test_the_code_of_a_sign_ups_link_answers_its_own_challenge(confirming: Api) -> None:
    """A stranger's later challenge must not get the code of the owner's link."""
    challenges = {"owner": "o" * 43, "stranger": "s" * 43}
    messages = {}
    for who, challenge in challenges.items():
        body = {"email": ANN, "password": PASSWORD, "code_challenge_method": "plain"}
        await confirming.post("/signup", {**body, "code_challenge": challenge})
        messages[who] = confirming.message()
    response = await confirming.client.get(messages["owner"].link)
    query = dict(parse_qsl(urlsplit(response.headers["location"]).query))
    grant = {"auth_code": query["code"], "code_verifier": challenges["owner"]}
    exchanged = await confirming.post("/token?grant_type=pkce", grant)
    assert exchanged.status_code == 200


async def test_a_user_whom_an_administrator_created_is_not_taken_over_by_a_sign_up(
    api: Api,
) -> None:
    """Made without confirmation, with rights that a stranger must not get."""
    await api.create(email_confirm=False, app_metadata={"role": "admin"})
    for password in (STRANGE, PASSWORD):
        response = await api.post("/signup", {"email": ANN, "password": password})
        assert rejection(response) == (422, "user_already_exists")


async def test_of_many_sign_ups_at_once_one_user_is_created(confirming: Api) -> None:
    body = {"email": ANN, "password": PASSWORD}
    responses = await asyncio.gather(*(confirming.post("/signup", body) for _ in range(6)))
    assert {response.status_code for response in responses} == {200}
    assert len(confirming.rows("SELECT 1 FROM auth.users")) == 1
    assert len(confirming.rows("SELECT 1 FROM auth.pending_sign_ups")) == 5
    await fragment_of(confirming, confirming.message())
    assert (await confirming.sign_in()).status_code == 200


async def test_a_seeded_address_in_mixed_case_signs_in_and_is_not_created_twice(api: Api) -> None:
    await api.sign_up()
    api.rows("UPDATE auth.users SET email = 'Ann@Example.com'")
    assert (await api.sign_in()).status_code == 200
    again = await api.post("/signup", {"email": ANN, "password": PASSWORD})
    assert rejection(again) == (422, "user_already_exists")
    response = await api.post("/admin/users", {"email": ANN}, token=SERVICE)
    assert rejection(response) == (422, "email_exists")


async def test_the_password_of_a_sign_up_that_came_from_supabase_is_void_by_another_email(
    confirming: Api,
) -> None:
    """There the row of a user has the password of the first sign-up before it is confirmed."""
    await confirming.create(email_confirm=False, password=STRANGE)
    confirming.rows("UPDATE auth.users SET raw_user_meta_data = jsonb_build_object('sub', id)")
    await confirming.post("/recover", {"email": ANN})
    await fragment_of(confirming, confirming.message())
    assert rejection(await confirming.sign_in(password=STRANGE)) == (400, "invalid_credentials")
